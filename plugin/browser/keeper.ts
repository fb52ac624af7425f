import { askForUrl, type Ask, type EmbedUrl, type Refusal, type Waiting } from './ask.js'
import { clockGap, steadyTime } from './clock.js'
import type { Expiry, TooljetEmbedEventMap } from './events.js'
import type { TooljetEmbedStrings } from './strings.js'
import type { State, View } from './view.js'

/** What is to be kept open. */
export interface Task {
  ask: Ask
  endpoint: string
  /** For an answer of the endpoint, and then for the app to load. */
  timeoutMs: number
  /** `load` events of a frame until the app is there. */
  loads: number
  strings: TooljetEmbedStrings
}

/** A frame, and the URL that it opened. */
interface Mount extends EmbedUrl {
  frame: HTMLIFrameElement
  /** On the steady clock. */
  endsAt: number
  loads: number
}

/** How often it is looked for what is due: when it may be soon, and when it is not. */
const LOOK_MS = 250
const CALM_LOOK_MS = 5000
const MAX_MOUNTS = 3
const MOUNT_WINDOW_MS = 60_000
const LONGEST_PAUSE_MS = 60_000
/** The clocks do not drift as far as this while a page looks at them. */
const JUMP_MS = 2000
/** How long past its end a frame still stands while its successor is under way. */
const GRACE_MS = 10_000

/**
 * Keeps one app open, and tells of it by the host's events and its attribute `state`.
 * @returns stops it, and leaves no frame, timer, listener or request
 */
export function keepOpen (host: HTMLElement, view: View, { ask, endpoint, timeoutMs, loads, strings }: Task): () => void {
  const over = new AbortController()
  const { signal } = over
  /** What the user sees, and what loads behind it. */
  let shown: Mount | undefined
  let coming: Mount | undefined
  let comingSince = 0
  /** How long before the end of what is shown a new URL is asked for. */
  let leadMs = 0
  /** The host knows of the renewal, and did not mind. */
  let isAnnounced = false
  let isAsking = false
  /** Before that nothing is asked; `mustWait`: because the server said so, or for ever. */
  let askAt = 0
  let mustWait = false
  let problem: Refusal | undefined
  /** Of who waits in line, and when the turn is to come. */
  let ticket: string | undefined
  let turnAt = 0
  let failures = 0
  let deadUrlId: string | undefined
  /** When frames were mounted that do not renew one. */
  let mounts: number[] = []
  let gap = clockGap()
  let timer: ReturnType<typeof setTimeout> | undefined

  /**
   * Does what is due. Looks often rather than once at the right time: a timer stands still while the machine sleeps.
   * Nothing is asked for a page that nobody sees, unless it waits in line.
   */
  function look (): void {
    clearTimeout(timer)
    // after sleep, or when the clock was set, the server knows how much life is left
    if (clockGap() - gap > JUMP_MS) {
      leadMs = Infinity
      if (ticket) askAt = 0
    }
    gap = clockGap()
    if (!shown && problem?.queue) view.say(sentenceOf(problem.queue))
    const leftMs = msLeft(shown)
    const isBusy = isAsking || coming
    if (coming && steadyTime() - comingSince > timeoutMs) {
      drop(coming)
      fail({ code: 'SILENT', status: 0 }, failures >= MAX_MOUNTS - 1)
    } else if (shown && leftMs <= (isBusy ? -GRACE_MS : 0)) {
      lose(shown, 'timeup')
    } else if (!isBusy && leftMs <= leadMs && steadyTime() >= askAt && (ticket || !document.hidden)) {
      if (shown ? isWelcome(leftMs) : mayMount()) request()
    }
    if (signal.aborted) return
    // where timers follow one another in a hidden page, browsers let them run once a minute: a turn is waited for by one
    const hiddenMs = ticket && document.hidden ? Math.min(askAt, shown?.endsAt ?? askAt) - steadyTime() : 0
    timer = setTimeout(look, Math.max(hiddenMs, !coming && msLeft(shown) > leadMs + CALM_LOOK_MS ? CALM_LOOK_MS : LOOK_MS))
  }

  function wake (): void {
    if (!mustWait) askAt = 0
    look()
  }

  function isWelcome (leftMs: number): boolean {
    isAnnounced ||= emit('beforerenew', { urlId: shown!.urlId, expiresIn: Math.floor(leftMs / 1000) })
    if (!isAnnounced) askAt = steadyTime() + Math.min(5000, leftMs / 4)
    return isAnnounced && !signal.aborted
  }

  /** Breaks a loop of sessions that end at once. */
  function mayMount (): boolean {
    mounts = mounts.filter((at) => steadyTime() - at < MOUNT_WINDOW_MS)
    if (mounts.length < MAX_MOUNTS) return true
    fail({ code: 'LOOP', status: 0 }, true)
    return false
  }

  async function request (): Promise<void> {
    isAsking = true
    const answer = await askForUrl(endpoint, { ...ask, replaces: deadUrlId, ticket }, timeoutMs, signal)
    isAsking = false
    if (signal.aborted) return
    if ('code' in answer) (answer.queue ? wait : fail)(answer)
    else if (shown && answer.urlId === shown.urlId) extend(shown, answer)
    else mount(answer)
    if (!signal.aborted) look()
  }

  /** Neither early nor late: a turn that nobody takes goes to the next. */
  function wait (answer: Refusal): void {
    const { retryAfter = 1, queue } = problem = answer
    ticket = queue!.ticket
    turnAt = steadyTime() + queue!.etaSeconds! * 1000
    askAt = steadyTime() + retryAfter * 1000
    mustWait = true
    failures = 0
    if (!shown) say()
  }

  /** The server has none yet that is newer. */
  function extend (mount: Mount, { expiresIn }: EmbedUrl): void {
    mount.endsAt = endOf(expiresIn)
    leadMs = leadOf(mount)
    isAnnounced &&= msLeft(mount) <= leadMs
    askAt = steadyTime() + msLeft(mount) / 4
    problem = undefined
    mustWait = false
  }

  function mount (url: EmbedUrl): void {
    const frame = view.add(url.redirectUrl, () => hasLoaded(mounted))
    const mounted = coming = { ...url, frame, endsAt: endOf(url.expiresIn), loads: 0 }
    comingSince = steadyTime()
    if (!shown) mounts.push(comingSince)
    ticket = undefined
    if (problem?.queue) {
      problem = undefined
      if (!shown) view.show('loading', strings.loading)
    }
  }

  function hasLoaded (mount: Mount): void {
    // an app does not leave its page: this is a reload after its session's end, or ToolJet's login page
    if (mount === shown) return lose(mount, 'navigated')
    if (mount !== coming || ++mount.loads < loads) return
    const { urlId, source, expiresAt, expiresIn, frame } = mount
    const type = shown ? 'renewed' : 'ready'
    view.reveal(frame, shown?.frame)
    shown = mount
    coming = deadUrlId = problem = undefined
    failures = askAt = 0
    mustWait = isAnnounced = false
    leadMs = leadOf(mount)
    say('ready')
    emit(type, { urlId, source, expiresAt, expiresIn })
    look()
  }

  function hear ({ source, origin, data }: MessageEvent): void {
    const mount = [shown, coming].find((mount) => mount && mount.frame.contentWindow === source && new URL(mount.redirectUrl).origin === origin)
    if (!mount || data?.type !== 'TJ_EMBED_APP_LOGOUT') return
    deadUrlId = mount.urlId
    lose(mount, 'logout', Number(data.error) || undefined)
  }

  /** A session is over. Its frame goes at once: the next thing in it may be a login page. */
  function lose (mount: Mount, reason: Expiry['reason'], status?: number): void {
    const { urlId } = mount
    drop(mount)
    leadMs = 0 // ToolJet may take no new token before the end of an old one that still shows
    if (!mustWait) askAt = 0
    emit('expired', { urlId, reason, status })
    if (!signal.aborted && !shown) say()
    if (!signal.aborted) look()
  }

  /** @param isFinal there is no sense in asking again: the user has to do something first */
  function fail (what: Refusal, isFinal = /^4(?!29)/.test(String(what.status))): void {
    const { retryAfter = 0 } = problem = what
    mustWait = isFinal || retryAfter > 0
    const pauseMs = Math.max(Math.min(LONGEST_PAUSE_MS, 1000 * 2 ** failures++), retryAfter * 1000)
    askAt = isFinal ? Infinity : steadyTime() + pauseMs * (1 + Math.random() / 4)
    if (isFinal) ticket = undefined
    emit('error', what)
    if (!signal.aborted && !shown) say()
  }

  function drop (mount: Mount | undefined): void {
    if (mount === coming) coming = undefined
    else shown = undefined
    view.remove(mount?.frame)
  }

  function say (state: State = problem ? (problem.queue ? 'queued' : askAt === Infinity ? 'fatal' : 'error') : 'loading'): void {
    if (problem?.queue) {
      const { position, etaSeconds } = problem.queue
      view.show(state, sentenceOf(problem.queue))
      emit('queued', { position, etaSeconds: etaSeconds === null ? null : secondsToTurn() })
    } else if (problem) {
      const { code, status } = problem
      const sentence = (strings[code] ?? strings[status] ?? ((status >= 500 && strings['5xx']) || strings.error))
        .replace('{seconds}', String(Math.ceil((askAt - steadyTime()) / 1000)))
      view.show(state, state === 'error' ? `${sentence} ${strings.retrying}` : sentence, strings.retry)
    } else {
      view.show(state, strings[state])
    }
    if (state === 'loading' || state === 'fatal') emit(state, problem!)
  }

  function sentenceOf ({ position, etaSeconds }: Waiting): string {
    const seconds = secondsToTurn()
    const minutes = Math.round(seconds / 60)
    const rest = etaSeconds === null ? 'stalled' : seconds < 60 ? 'soon' : minutes < 2 ? 'minute' : 'minutes'
    return `${strings.queued} ${strings[rest]}`.replace('{position}', String(position)).replace('{minutes}', String(minutes))
  }

  function secondsToTurn (): number {
    return Math.max(0, Math.ceil((turnAt - steadyTime()) / 1000))
  }

  /** @returns false when a listener has prevented the default */
  function emit<Type extends keyof TooljetEmbedEventMap> (type: Type, detail: TooljetEmbedEventMap[Type]['detail']): boolean {
    return host.dispatchEvent(new CustomEvent(type, { detail, cancelable: type === 'beforerenew' }))
  }

  for (const type of ['visibilitychange', 'online', 'pageshow']) window.addEventListener(type, wake, { signal })
  window.addEventListener('message', hear, { signal })
  // not before whoever starts it can stop it, too: listeners may want to
  timer = setTimeout(() => {
    say()
    look()
  })

  return () => {
    over.abort()
    clearTimeout(timer)
    drop(coming)
    drop(shown)
  }
}

/** `expiresIn` is rounded down. */
function endOf (expiresIn: number): number {
  return steadyTime() + (expiresIn + 1) * 1000
}

function msLeft (mount: Mount | undefined): number {
  return mount ? mount.endsAt - steadyTime() : -Infinity
}

/** The server gives a new URL near the end of the old one's life, and not before. */
function leadOf ({ expiresIn }: Mount): number {
  return 1000 * (1 + Math.max(Math.min(30, expiresIn / 20), Math.min(2, expiresIn / 4)))
}
