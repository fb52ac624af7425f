import { clockOffset, steadyTime } from './clock.js'
import type { Expiry, Renewal, TooljetEmbedEventMap } from './events.js'
import { noAnswer, requestUrl, type EmbedUrl, type Failure, type RequestSettings } from './request.js'
import { stringsOf, type OwnStrings } from './strings.js'
import type { State, View } from './view.js'

/** A frame, and the URL that it opened. */
interface Mount {
  told: Renewal
  frame: HTMLIFrameElement
  appOrigin: string
  /** On the steady clock. */
  endsAt: number
  loads: number
  /** When it loaded first, and then when it was shown. */
  since?: number
}

/** In milliseconds. An enum, because its values stand in the built module without their names. */
const enum Ms {
  /** How often it is looked for what is due: when it may be soon, and when it is not. */
  Tick = 250,
  CalmTick = 5000,
  /** For an answer of the endpoint, and then for the first sign of the app. */
  Timeout = 30_000,
  /** A frame whose page loads late has one `load` less: it is shown this long after the first. */
  UntilReveal = 5000,
  /** Then there is a button to reload it, for it may be stuck. */
  UntilReload = 30_000,
  UntilSlow = 8000,
  /** What leaves its page so soon, twice, was never the app. */
  Quick = 10_000,
  /** What ends so soon, three times, is a loop. */
  Soon = 20_000,
  /** The clocks do not drift as far as this while a page looks at them. */
  Jump = 2000,
  /** How long past its end a frame still stands while its successor is under way. */
  Grace = 10_000,
}

const enum Seconds { LongestPause = 60 }

/**
 * Keeps one app open, and tells of it by the host's events and what the view shows.
 * @param waitMs before it begins
 * @returns stops it, and leaves no frame, timer, listener or request
 */
export function startSession (host: HTMLElement & RequestSettings & OwnStrings, view: View, waitMs: number): () => void {
  const over = new AbortController()
  const { signal } = over
  const get = (name: string): string | undefined => host.getAttribute(name) ?? undefined
  /** Of a frame until the app is there: ToolJet's opening page, then the app. */
  const loads = +get('loads')! || 2
  const timeoutMs = +get('timeout')! * 1000 || Ms.Timeout
  let state: State = 'loading'
  /** The state when there is no app to see. */
  let fallback: State = state
  let loadingSince = steadyTime()
  /** What the user sees, and what loads behind it. */
  let active: Mount | undefined
  let pending: Mount | undefined
  /** How long before the end of what is shown a new URL is asked for. */
  let leadMs = 0
  /** The host knows of the renewal, and did not mind. */
  let isAnnounced = false
  let request: AbortController | undefined
  /** When a request or a frame was begun. */
  let busySince = 0
  /** Before that nothing is asked. */
  let askAt = 0
  /** What it is that `fallback` tells of. */
  let problem = {} as Failure
  /** Of who waits in line, and when the turn is to come. */
  let ticket: string | undefined
  let turnAt = 0
  let failures = 0
  let deadUrlId: string | undefined
  /** Of sessions that ended soon, one after the other: a letter for each. */
  let ends = ''
  let offset = clockOffset()
  let timer: ReturnType<typeof setTimeout> | undefined

  /**
   * Does what is due. Looks often rather than once at the right time: a timer stands still while the machine sleeps.
   * Nothing is asked for a page that nobody sees, unless it waits in line.
   */
  function tick (): void {
    clearTimeout(timer)
    if (signal.aborted) return
    const now = steadyTime()
    // after sleep, or when the clock was set, the server knows how much life is left
    if (clockOffset() - offset > Ms.Jump) {
      leadMs = Infinity
      if (ticket) askAt = 0
    }
    offset = clockOffset()
    const leftMs = msLeft(active)
    const isBusy = request || pending
    if (isBusy && !pending?.loads && now - busySince > timeoutMs) {
      fail(pending ? { code: 'SILENT', status: 0 } : noAnswer(), pending && failures > 1)
      abandon()
    } else if (pending && now - pending.since! >= Math.min(Ms.UntilReveal, timeoutMs)) {
      reveal(pending)
    } else if (active && leftMs <= (isBusy ? -Ms.Grace : 0)) {
      close(active, 'timeup')
      return tick()
    } else if (!isBusy && leftMs <= leadMs && now >= askAt && (ticket || !document.hidden) && (!active || isWelcome(leftMs))) {
      ask()
    }
    if (signal.aborted) return
    render()
    // where timers follow one another in a hidden page, browsers let them run once a minute: a turn is waited for by one, and in whole ms
    const hiddenMs = ticket && document.hidden ? Math.min(askAt, active?.endsAt ?? askAt) - steadyTime() + 1 : 0
    timer = setTimeout(tick, Math.max(hiddenMs, !pending && msLeft(active) > leadMs + Ms.CalmTick ? Ms.CalmTick : Ms.Tick))
  }

  function wake (): void {
    hurry()
    tick()
  }

  /** Unless the server said when, or the user is to. */
  function hurry (): void {
    if (fallback === 'loading' || (fallback === 'error' && !problem.retryAfter)) askAt = 0
  }

  function isWelcome (leftMs: number): boolean {
    isAnnounced ||= emit('beforerenew', { urlId: active!.told.urlId, expiresIn: Math.floor(leftMs / 1000) })
    if (!isAnnounced) askAt = steadyTime() + Math.min(5000, leftMs / 4)
    return isAnnounced && !signal.aborted
  }

  async function ask (): Promise<void> {
    const own = request = new AbortController()
    busySince = steadyTime()
    const answer = await requestUrl(get, host, { replaces: deadUrlId, ticket }, own.signal)
    if (request !== own) return // nobody wants to know any more
    request = undefined
    if ('code' in answer) (answer.queue ? wait : fail)(answer)
    else if (active && answer.urlId === active.told.urlId) extend(active, answer)
    else mount(answer)
    tick()
  }

  /** Neither early nor late: a turn that nobody takes goes to the next. */
  function wait (answer: Failure): void {
    const { retryAfter = 1, queue } = problem = answer
    ticket = queue!.ticket
    turnAt = timeIn(queue!.etaSeconds!)
    askAt = timeIn(retryAfter)
    failures = 0
    enter('queued')
  }

  /** The server has none yet that is newer. */
  function extend (mount: Mount, answer: EmbedUrl): void {
    mount.endsAt = endOf(answer)
    leadMs = leadOf(answer)
    isAnnounced &&= msLeft(mount) <= leadMs
    askAt = steadyTime() + msLeft(mount) / 4
    fallback = 'loading'
  }

  function mount ({ redirectUrl, ...told }: EmbedUrl): void {
    const appOrigin = new URL(redirectUrl).origin
    const frame = view.add(redirectUrl, appOrigin, () => onLoad(mounted))
    const mounted: Mount = pending = { told, appOrigin, frame, endsAt: endOf(told), loads: 0 }
    busySince = steadyTime()
    ticket = undefined
    if (fallback === 'queued') {
      fallback = 'loading'
      if (!active) state = fallback
    }
  }

  function onLoad (mount: Mount): void {
    mount.loads++
    mount.since ??= steadyTime()
    if (mount === pending && mount.loads >= loads) reveal(mount)
    // an app does not leave its page: this is a reload after its session's end, or ToolJet's page for an error or a login
    else if (mount === active && mount.loads > loads) close(mount, 'navigated')
    tick()
  }

  function reveal (mount: Mount): void {
    const type = active ? 'renewed' : 'ready'
    view.reveal(mount.frame, active?.frame)
    if (active) ends = ''
    active = mount
    mount.since = steadyTime()
    pending = deadUrlId = undefined
    askAt = 0
    if (mount.loads >= loads) failures = 0
    isAnnounced = false
    leadMs = leadOf(mount.told)
    fallback = 'loading'
    state = 'ready'
    render()
    emit(type, mount.told)
  }

  function onMessage ({ source, origin, data }: MessageEvent): void {
    const mount = [active, pending].find((mount) => mount?.frame.contentWindow === source && mount!.appOrigin === origin)
    const { type, error } = Object(data)
    // older versions of ToolJet send no type
    if (!mount || (type ? type !== 'TJ_EMBED_APP_LOGOUT' : !(error > 399))) return
    const status = +error || undefined
    if (!status && mount === active) {
      // the user does not want to be signed in again at once
      abandon()
      fallback = 'signed-out'
      askAt = Infinity
      close(mount, 'logout')
    } else if (status && status !== 401 && status !== 403) {
      close(mount, mount === active && 'logout', status, { code: 'OUTAGE', status: 500 })
    } else {
      deadUrlId = mount.told.urlId
      leadMs = 0 // ToolJet may take no new token before the end of an old one that still shows
      const isDenied = mount.told.source === 'minted' && mount.loads < 2 && mount === (active ?? pending) && !isStuck()
      close(mount, 'logout', status, status && isDenied && { code: 'TOOLJET_EMBED_ACCESS_DENIED', status: 403 })
    }
    tick()
  }

  function onViolation ({ effectiveDirective, blockedURI, disposition }: SecurityPolicyViolationEvent): void {
    if (!pending || effectiveDirective !== 'frame-src' || disposition !== 'enforce' || !blockedURI.startsWith(pending.appOrigin)) return
    console.error(`tooljet-embed: Content-Security-Policy lacks frame-src ${pending.appOrigin}`)
    abandon()
    fail({ code: 'BLOCKED_BY_CSP', status: 0 }, true)
    tick()
  }

  /**
   * Takes a frame away at once: the next thing in it may be a login page.
   * @param reason how its session ended, where there was one
   * @param failure where it is not to be opened anew at once
   */
  function close (mount: Mount, reason: Expiry['reason'] | false, toldStatus?: number, failure?: Failure | false | 0): void {
    const livedMs = mount === active ? steadyTime() - mount.since! : 0
    drop(mount)
    hurry()
    if (reason) emit('expired', { urlId: mount.told.urlId, reason, status: toldStatus })
    if (signal.aborted) return
    if (reason && !active && askAt < Infinity) {
      ends = livedMs > Ms.Soon || reason === 'timeup' ? '' : ends + (livedMs < Ms.Quick ? reason[0] : '-')
      const code = ends.endsWith('nn') ? 'NOT_AVAILABLE' : ends[2] && 'LOOP'
      if (code) failure ||= { code, status: 0 }
    }
    if (failure) fail(failure, failure.status < 500)
    else enter(fallback)
  }

  /** @param isFinal there is no sense in asking again: the user has to do something first */
  function fail (what: Failure, isFinal = /^4(?!29)/.test(`${what.status}`)): void {
    const { retryAfter = 0 } = problem = what
    const seconds = Math.max(Math.min(Seconds.LongestPause, 2 ** failures++), retryAfter)
    askAt = isFinal ? Infinity : timeIn(seconds * (1 + Math.random() / 4))
    if (isFinal) ticket = undefined
    emit('error', what)
    if (!signal.aborted) enter(isFinal ? 'fatal' : 'error')
  }

  function drop (mount: Mount | undefined): void {
    if (mount === pending) pending = undefined
    else active = undefined
    view.drop(mount?.frame)
  }

  /** Of what the user does not see. */
  function abandon (): void {
    drop(pending)
    request?.abort()
    request = undefined
  }

  /** Tells of a state, unless there is an app to see. */
  function enter (next: State): void {
    fallback = next
    if (active) return
    state = next
    loadingSince = steadyTime()
    render()
    const { queue } = problem
    if (state === 'queued') emit(state, { position: queue!.position, etaSeconds: queue!.etaSeconds && secondsUntil(turnAt) })
    else if (state === 'loading') emit(state, null)
    else if (state === 'fatal') emit(state, problem)
  }

  /** It may be. */
  function isStuck (): boolean {
    return !!active && active.loads < loads && steadyTime() - active.since! > Ms.UntilReload
  }

  function render (): void {
    const { code, status, queue } = problem
    const strings = stringsOf(host)
    const seconds = secondsUntil(state === 'queued' ? turnAt : askAt)
    const minutes = Math.round(seconds / 60)
    let sentence = strings[state]
    let label: string | undefined
    if (state === 'loading') {
      if (steadyTime() - loadingSince > Ms.UntilSlow) sentence = strings.slow
    } else if (state === 'queued') {
      sentence += ' ' + strings[queue!.etaSeconds === null ? 'stalled' : seconds < 60 ? 'soon' : minutes < 2 ? 'minute' : 'minutes']
    } else if (state === 'error' || state === 'fatal') {
      // a 403 that is not the plugin's own may be about anything
      sentence = strings[code] ?? strings[status === 403 && !code.startsWith('TOOLJET_') ? 'error' : status] ?? strings[status > 499 ? '5xx' : 'error']
      if (state === 'error') sentence += ' ' + strings[seconds ? 'retrying' : 'loading']
      label = strings.retry
    } else if (state === 'signed-out' || isStuck()) {
      label = strings.reload
    }
    const values = { position: queue?.position, minutes, seconds } as unknown as Record<string, string>
    view.show(state, sentence!.replace(/{(\w+)}/g, (_placeholder, name: string) => values[name]!), label)
  }

  /** @returns false when a listener has prevented the default */
  function emit<Type extends keyof TooljetEmbedEventMap> (type: Type, detail: TooljetEmbedEventMap[Type]['detail']): boolean {
    return host.dispatchEvent(new CustomEvent(type, { detail, cancelable: true }))
  }

  const listeners = { message: onMessage, securitypolicyviolation: onViolation, visibilitychange: wake, online: wake }
  for (const type in listeners) addEventListener(type, listeners[type as keyof typeof listeners] as EventListener, { signal })
  function begin (): void {
    enter('loading')
    tick()
  }

  render()
  // not before whoever starts it can stop it, too: listeners may want to
  timer = setTimeout(() => {
    if (get('loading') !== 'lazy') return begin()
    const sight = new IntersectionObserver((entries) => {
      if (!entries.pop()!.isIntersecting) return
      sight.disconnect()
      begin()
    })
    sight.observe(host)
    signal.onabort = () => sight.disconnect()
  }, waitMs)

  return () => {
    over.abort()
    clearTimeout(timer)
    abandon()
    drop(active)
  }
}

function timeIn (seconds: number): number {
  return steadyTime() + seconds * 1000
}

function secondsUntil (at: number): number {
  return Math.max(0, Math.ceil((at - steadyTime()) / 1000))
}

/** `expiresIn` is rounded down. */
function endOf ({ expiresIn }: Renewal): number {
  return timeIn(expiresIn + 1)
}

function msLeft (mount: Mount | undefined): number {
  return mount ? mount.endsAt - steadyTime() : -Infinity
}

/** The server gives a new URL near the end of the old one's life, and not before. */
function leadOf ({ expiresIn }: Renewal): number {
  return 1000 * (1 + Math.max(Math.min(30, expiresIn / 20), Math.min(2, expiresIn / 4)))
}
