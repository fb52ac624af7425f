import type { Disturbance, Life, Limits, Records } from './records.js'

/** Stretches of time, merged. */
class Windows {
  readonly #merged: { from: number, to: number }[] = []

  constructor (windows: { from: number, to: number }[]) {
    for (const { from, to } of windows.toSorted((a, b) => a.from - b.from)) {
      const last = this.#merged.at(-1)
      if (last !== undefined && from <= last.to) last.to = Math.max(last.to, to)
      else this.#merged.push({ from, to })
    }
  }

  /** How much of a stretch they leave. */
  leftOf (from: number, to: number): number {
    return this.#merged.reduce((left, window) => left - Math.max(0, Math.min(to, window.to) - Math.max(from, window.from)), to - from)
  }

  /** Whether any of them has a moment in common with this stretch. */
  touch (from: number, to = from): boolean {
    let low = 0
    let high = this.#merged.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#merged[middle]!.to < from) low = middle + 1
      else high = middle
    }
    return low < this.#merged.length && this.#merged[low]!.from <= to
  }
}

/** When what is promised for good times only is not judged. */
export interface Excused {
  redis: Windows
  /** Of one instance: others that were cut off excuse it of nothing. */
  redisOf: (life: Life) => Windows
  /** Nothing, but for what an instance does that has taken Redis for away. While they last, answers come in time. */
  replies: Windows
  /** All that the plan does besides. */
  otherThanReplies: Windows
  /** When the machine was too busy to tell: that much longer an answer may take. */
  lags: Windows
  /** Of these the promise of one mint at a time knows nothing: the caller is gone, and the stand-in goes on with its call. */
  links: Windows
  instances: Windows
  /** Everything. */
  any: Windows
}

const BEFORE_MS = 200
const SLACK_MS = 500
/** Between two probes of a Redis that is away, and between two tries to connect, at most. */
const PROBE_MS = 1000
const RECONNECT_MS = 1000
/** Until ToolJet's last pause is over, and the last probe. */
const MAX_PAUSE_MS = 2000

/** Generous on purpose: what is judged then holds for certain. */
export function excusedBy ({ disturbances, lives, limits, lags }: Records): Excused {
  const { lockMs, redisTimeoutMs, timeoutMs } = limits
  const redisAfterMs = PROBE_MS + RECONNECT_MS + lockMs + redisTimeoutMs + SLACK_MS
  const planned = widened(disturbances, ['redis'], redisAfterMs)
  const redis = [...planned, ...downByLog(lives, limits)]
  const ofLives = new Map<Life, Windows>()
  const redisOf = (life: Life): Windows => {
    let windows = ofLives.get(life)
    if (windows === undefined) {
      const hits = disturbances.filter(({ slot }) => slot === undefined || slot === life.slot)
      ofLives.set(life, windows = new Windows([...widened(hits, ['redis'], redisAfterMs), ...downByLog([life], limits)]))
    }
    return windows
  }
  const links = widened(disturbances, ['tooljet-link'], timeoutMs + SLACK_MS)
  const tooljet = widened(disturbances, ['tooljet', 'tooljet-link'], MAX_PAUSE_MS + PROBE_MS + timeoutMs + redisTimeoutMs + SLACK_MS)
  const instances = widened(disturbances, ['instance'], lockMs + SLACK_MS)
  const replies = widened(disturbances, ['redis-replies'], redisTimeoutMs)
  return {
    redis: new Windows(redis),
    redisOf,
    replies: new Windows(replies),
    otherThanReplies: new Windows([...planned, ...tooljet, ...instances]),
    lags: new Windows(lags),
    links: new Windows(links),
    instances: new Windows(instances),
    any: new Windows([...redis, ...tooljet, ...instances]),
  }
}

function widened (disturbances: Disturbance[], of: Disturbance['of'][], afterMs: number) {
  return disturbances.filter((disturbance) => of.includes(disturbance.of)).map(({ from, to }) => ({ from: from - BEFORE_MS, to: to + afterMs }))
}

/** On a busy machine a process may miss Redis's answers without a fault of the plan: it says so, and the report counts it. */
function downByLog (lives: Records['lives'], { redisTimeoutMs, lockMs }: Limits) {
  return lives.flatMap(({ redisDown, exit }) => redisDown.map(({ from, to }) => {
    return { from: from - 2 * redisTimeoutMs - BEFORE_MS, to: (to ?? exit?.at ?? Infinity) + lockMs + SLACK_MS }
  }))
}

/** How often an instance took Redis for away though nothing of the plan was the reason; lost replies may be one. */
export function unexplainedDowns ({ disturbances, lives, limits }: Records): number {
  const redis = new Windows(widened(disturbances, ['redis', 'redis-replies'], PROBE_MS + RECONNECT_MS + limits.redisTimeoutMs + SLACK_MS))
  return lives.flatMap(({ redisDown, ending }) => redisDown.filter(({ from }) => !redis.touch(from) && !(ending !== undefined && from >= ending.at))).length
}
