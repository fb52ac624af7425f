import { clockOffset, monotonicNow } from './clock.js'
import type { Expiry, Renewal, TooljetEmbedEventMap } from './events.js'
import { noAnswer, requestUrl, type EmbedUrl, type Failure, type RequestSettings } from './request.js'
import { stringsOf, type OwnStrings } from './strings.js'
import type { State, View } from './view.js'

/** A frame with the app, and the URL that it was opened with. */
interface AppFrame {
  renewal: Renewal
  frame: HTMLIFrameElement
  appOrigin: string
  /** End of the URL's life, on the monotonic clock. */
  endsAt: number
  loads: number
  /** Time of its first `load`; once it is shown, the time since it is. */
  since?: number
}

/** Milliseconds. A const enum, so that the built module has the values without the names. */
const enum Ms {
  /** Interval of `tick`: when something may be due soon, and otherwise. */
  Tick = 250,
  CalmTick = 5000,
  /** Timeout of a request to the endpoint, and then of the frame's first `load`. */
  Timeout = 30_000,
  /** A slow page may skip a `load`: a frame is shown this long after its first one. */
  UntilReveal = 5000,
  /** After this time an app that may be stuck gets a reload button. */
  UntilReload = 30_000,
  UntilSlow = 8000,
  /** A frame that leaves its page this soon, twice, never showed the app. */
  Quick = 10_000,
  /** Sessions that end this soon, three times, are a loop. */
  Soon = 20_000,
  /** A larger change of the clocks' difference means sleep, or a clock that was set. */
  Jump = 2000,
  /** How long a frame stays after its end while its successor loads. */
  Grace = 10_000,
}

const enum Seconds { LongestPause = 60 }

/**
 * Keeps one app open, and reports its state by events of the host and in the view.
 * @param waitMs time before it begins
 * @returns a function that stops it, and removes frames, timers, listeners and requests
 */
export function startSession (host: HTMLElement & RequestSettings & OwnStrings, view: View, waitMs: number): () => void {
  const stopped = new AbortController()
  const { signal } = stopped
  const get = (name: string): string | undefined => host.getAttribute(name) ?? undefined
  /** `load` events of a frame until the app is there: ToolJet's opening page, then the app. */
  const loads = +get('loads')! || 2
  const timeoutMs = +get('timeout')! * 1000 || Ms.Timeout
  let state: State = 'loading'
  /** The state for when no app is shown. */
  let stateWithoutApp: State = state
  let loadingSince = monotonicNow()
  /** The frame that the user sees, and the one that loads behind it. */
  let active: AppFrame | undefined
  let pending: AppFrame | undefined
  /** How long before the active frame's end a new URL is requested. */
  let renewLeadMs = 0
  /** `beforerenew` was sent, and not prevented. */
  let isAnnounced = false
  let request: AbortController | undefined
  /** Start of the current request or frame. */
  let busySince = 0
  /** No request is sent before this time. */
  let nextRequestAt = 0
  /** The failure behind `stateWithoutApp`. */
  let problem = {} as Failure
  /** While waiting in the queue: the ticket, and the expected time of the turn. */
  let ticket: string | undefined
  let turnAt = 0
  let failures = 0
  let invalidUrlId: string | undefined
  /** Sessions in a row that ended soon: a letter for each. */
  let quickEnds = ''
  let lastOffset = clockOffset()
  let timer: ReturnType<typeof setTimeout> | undefined

  /**
   * Does what is due. It runs often rather than once at the right time, because timers stand still while the machine sleeps.
   * A hidden page sends no requests, unless it waits in the queue.
   */
  function tick (): void {
    clearTimeout(timer)
    if (signal.aborted) return
    const now = monotonicNow()
    // after sleep, or when the clock was set, only the server knows how long the URL is still valid
    if (clockOffset() - lastOffset > Ms.Jump) {
      renewLeadMs = Infinity
      if (ticket) nextRequestAt = 0
    }
    lastOffset = clockOffset()
    const leftMs = msLeft(active)
    const isBusy = request || pending
    if (isBusy && !pending?.loads && now - busySince > timeoutMs) {
      fail(pending ? { code: 'SILENT', status: 0 } : noAnswer(), pending && failures > 1)
      cancelPending()
    } else if (pending && now - pending.since! >= Math.min(Ms.UntilReveal, timeoutMs)) {
      reveal(pending)
    } else if (active && leftMs <= (isBusy ? -Ms.Grace : 0)) {
      closeFrame(active, 'timeup')
      return tick()
    } else if (!isBusy && leftMs <= renewLeadMs && now >= nextRequestAt && (ticket || !document.hidden) && (!active || announceRenewal(leftMs))) {
      requestNewUrl()
    }
    if (signal.aborted) return
    render()
    // browsers run chained timers of a hidden page once a minute: wait for the turn by a single one, in whole ms
    const hiddenMs = ticket && document.hidden ? Math.min(nextRequestAt, active?.endsAt ?? nextRequestAt) - monotonicNow() + 1 : 0
    timer = setTimeout(tick, Math.max(hiddenMs, !pending && msLeft(active) > renewLeadMs + Ms.CalmTick ? Ms.CalmTick : Ms.Tick))
  }

  function wake (): void {
    skipPause()
    tick()
  }

  /** Ends a pause, unless the server set it, or the user has to act first. */
  function skipPause (): void {
    if (stateWithoutApp === 'loading' || (stateWithoutApp === 'error' && !problem.retryAfter)) nextRequestAt = 0
  }

  function announceRenewal (leftMs: number): boolean {
    isAnnounced ||= emit('beforerenew', { urlId: active!.renewal.urlId, expiresIn: Math.floor(leftMs / 1000) })
    if (!isAnnounced) nextRequestAt = monotonicNow() + Math.min(5000, leftMs / 4)
    return isAnnounced && !signal.aborted
  }

  async function requestNewUrl (): Promise<void> {
    const current = request = new AbortController()
    busySince = monotonicNow()
    const answer = await requestUrl(get, host, { replaces: invalidUrlId, ticket }, current.signal)
    if (request !== current) return // it was cancelled meanwhile
    request = undefined
    if ('code' in answer) (answer.queue ? waitInQueue : fail)(answer)
    else if (active && answer.urlId === active.renewal.urlId) extendActive(active, answer)
    else openFrame(answer)
    tick()
  }

  /** Waits for the turn. The next request has to come in time: a turn that is not used goes to the next in the queue. */
  function waitInQueue (answer: Failure): void {
    const { retryAfter = 1, queue } = problem = answer
    ticket = queue!.ticket
    turnAt = timeIn(queue!.etaSeconds!)
    nextRequestAt = timeIn(retryAfter)
    failures = 0
    setState('queued')
  }

  /** For an answer with the same URL: the server has no newer one yet. */
  function extendActive (appFrame: AppFrame, answer: EmbedUrl): void {
    appFrame.endsAt = endOf(answer)
    renewLeadMs = leadOf(answer)
    isAnnounced &&= msLeft(appFrame) <= renewLeadMs
    nextRequestAt = monotonicNow() + msLeft(appFrame) / 4
    stateWithoutApp = 'loading'
  }

  function openFrame ({ redirectUrl, ...renewal }: EmbedUrl): void {
    const appOrigin = new URL(redirectUrl).origin
    const frame = view.add(redirectUrl, appOrigin, () => onLoad(opened))
    const opened: AppFrame = pending = { renewal, appOrigin, frame, endsAt: endOf(renewal), loads: 0 }
    busySince = monotonicNow()
    ticket = undefined
    if (stateWithoutApp === 'queued') {
      stateWithoutApp = 'loading'
      if (!active) state = stateWithoutApp
    }
  }

  function onLoad (appFrame: AppFrame): void {
    appFrame.loads++
    appFrame.since ??= monotonicNow()
    if (appFrame === pending && appFrame.loads >= loads) reveal(appFrame)
    // an app never leaves its page: this is a reload after its session has ended, or ToolJet's page for an error or the login
    else if (appFrame === active && appFrame.loads > loads) closeFrame(appFrame, 'navigated')
    tick()
  }

  function reveal (appFrame: AppFrame): void {
    const type = active ? 'renewed' : 'ready'
    view.reveal(appFrame.frame, active?.frame)
    if (active) quickEnds = ''
    active = appFrame
    appFrame.since = monotonicNow()
    pending = invalidUrlId = undefined
    nextRequestAt = 0
    if (appFrame.loads >= loads) failures = 0
    isAnnounced = false
    renewLeadMs = leadOf(appFrame.renewal)
    stateWithoutApp = 'loading'
    state = 'ready'
    render()
    emit(type, appFrame.renewal)
  }

  function onMessage ({ source, origin, data }: MessageEvent): void {
    const appFrame = [active, pending].find((appFrame) => appFrame?.frame.contentWindow === source && appFrame!.appOrigin === origin)
    const { type, error } = Object(data)
    // older versions of ToolJet send no type
    if (!appFrame || (type ? type !== 'TJ_EMBED_APP_LOGOUT' : !(error > 399))) return
    const status = +error || undefined
    if (!status && appFrame === active) {
      // a log-out by the user: do not sign in again at once
      cancelPending()
      stateWithoutApp = 'signed-out'
      nextRequestAt = Infinity
      closeFrame(appFrame, 'logout')
    } else if (status && status !== 401 && status !== 403) {
      closeFrame(appFrame, appFrame === active && 'logout', status, { code: 'OUTAGE', status: 500 })
    } else {
      invalidUrlId = appFrame.renewal.urlId
      renewLeadMs = 0 // some ToolJets accept no new token while an older one is valid
      const isDenied = appFrame.renewal.source === 'minted' && appFrame.loads < 2 && appFrame === (active ?? pending) && !mayBeStuck()
      closeFrame(appFrame, 'logout', status, status && isDenied && { code: 'TOOLJET_EMBED_ACCESS_DENIED', status: 403 })
    }
    tick()
  }

  function onViolation ({ effectiveDirective, blockedURI, disposition }: SecurityPolicyViolationEvent): void {
    if (!pending || effectiveDirective !== 'frame-src' || disposition !== 'enforce' || !blockedURI.startsWith(pending.appOrigin)) return
    console.error(`tooljet-embed: Content-Security-Policy lacks frame-src ${pending.appOrigin}`)
    cancelPending()
    fail({ code: 'BLOCKED_BY_CSP', status: 0 }, true)
    tick()
  }

  /**
   * Removes a frame at once: the next page in it may be the login.
   * @param reason how its session ended, if there was one
   * @param failure prevents that the app is opened again at once
   */
  function closeFrame (appFrame: AppFrame, reason: Expiry['reason'] | false, endStatus?: number, failure?: Failure | false | 0): void {
    const livedMs = appFrame === active ? monotonicNow() - appFrame.since! : 0
    removeFrame(appFrame)
    skipPause()
    if (reason) emit('expired', { urlId: appFrame.renewal.urlId, reason, status: endStatus })
    if (signal.aborted) return
    if (reason && !active && nextRequestAt < Infinity) {
      quickEnds = livedMs > Ms.Soon || reason === 'timeup' ? '' : quickEnds + (livedMs < Ms.Quick ? reason[0] : '-')
      const code = quickEnds.endsWith('nn') ? 'NOT_AVAILABLE' : quickEnds[2] && 'LOOP'
      if (code) failure ||= { code, status: 0 }
    }
    if (failure) fail(failure, failure.status < 500)
    else setState(stateWithoutApp)
  }

  /** @param isFinal another request makes no sense before the user acts */
  function fail (failure: Failure, isFinal = /^4(?!29)/.test(`${failure.status}`)): void {
    const { retryAfter = 0 } = problem = failure
    const seconds = Math.max(Math.min(Seconds.LongestPause, 2 ** failures++), retryAfter)
    nextRequestAt = isFinal ? Infinity : timeIn(seconds * (1 + Math.random() / 4))
    if (isFinal) ticket = undefined
    emit('error', failure)
    if (!signal.aborted) setState(isFinal ? 'fatal' : 'error')
  }

  function removeFrame (appFrame: AppFrame | undefined): void {
    if (appFrame === pending) pending = undefined
    else active = undefined
    view.drop(appFrame?.frame)
  }

  /** Cancels the request and the frame that the user does not see. */
  function cancelPending (): void {
    removeFrame(pending)
    request?.abort()
    request = undefined
  }

  /** Sets the state, and reports it unless an app is shown. */
  function setState (next: State): void {
    stateWithoutApp = next
    if (active) return
    state = next
    loadingSince = monotonicNow()
    render()
    const { queue } = problem
    if (state === 'queued') emit(state, { position: queue!.position, etaSeconds: queue!.etaSeconds && secondsUntil(turnAt) })
    else if (state === 'loading') emit(state, null)
    else if (state === 'fatal') emit(state, problem)
  }

  /** Whether the app may be stuck: there were fewer `load` events than expected. */
  function mayBeStuck (): boolean {
    return !!active && active.loads < loads && monotonicNow() - active.since! > Ms.UntilReload
  }

  function render (): void {
    const { code, status, queue } = problem
    const strings = stringsOf(host)
    const seconds = secondsUntil(state === 'queued' ? turnAt : nextRequestAt)
    const minutes = Math.round(seconds / 60)
    let sentence = strings[state]
    let label: string | undefined
    if (state === 'loading') {
      if (monotonicNow() - loadingSince > Ms.UntilSlow) sentence = strings.slow
    } else if (state === 'queued') {
      sentence += ' ' + strings[queue!.etaSeconds === null ? 'stalled' : seconds < 60 ? 'soon' : minutes < 2 ? 'minute' : 'minutes']
    } else if (state === 'error' || state === 'fatal') {
      // a 403 of another server may have any reason
      sentence = strings[code] ?? strings[status === 403 && !code.startsWith('TOOLJET_') ? 'error' : status] ?? strings[status > 499 ? '5xx' : 'error']
      if (state === 'error') sentence += ' ' + strings[seconds ? 'retrying' : 'loading']
      label = strings.retry
    } else if (state === 'signed-out' || mayBeStuck()) {
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
    setState('loading')
    tick()
  }

  render()
  // asynchronous, so that listeners can already stop it
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
    stopped.abort()
    clearTimeout(timer)
    cancelPending()
    removeFrame(active)
  }
}

function timeIn (seconds: number): number {
  return monotonicNow() + seconds * 1000
}

function secondsUntil (at: number): number {
  return Math.max(0, Math.ceil((at - monotonicNow()) / 1000))
}

/** End of a URL's life; `expiresIn` is rounded down. */
function endOf ({ expiresIn }: Renewal): number {
  return timeIn(expiresIn + 1)
}

function msLeft (appFrame: AppFrame | undefined): number {
  return appFrame ? appFrame.endsAt - monotonicNow() : -Infinity
}

/** How long before its end a URL is renewed: the server returns a new one only near the end of the old one. */
function leadOf ({ expiresIn }: Renewal): number {
  return 1000 * (1 + Math.max(Math.min(30, expiresIn / 20), Math.min(2, expiresIn / 4)))
}
