import type { Timers } from '../timers.js'
import type { Rate } from './mint-limit.js'

interface Call {
  name: string
  /** Time of the call, on the monotonic clock. */
  at: number
  isReported: boolean
  /** It brought no URL. */
  isUnminted: boolean
}

/** The last calls are reported to Redis each time: one that came back with older data may have lost them. */
const REPORTED_AGAIN = 20
/** Calls that are remembered. */
const MAX_CALLS = 1000

/** The last calls of this instance. Without Redis they keep it within its share of the limit; when Redis is available again, they are reported to it. */
export class OwnCalls {
  readonly #timers: Timers
  #calls: Call[] = []

  constructor (timers: Timers) {
    this.#timers = timers
  }

  /**
   * Takes a slot without Redis.
   * @param rate the limit; `undefined` when none is known
   * @param instances number of instances that share it
   * @returns 0 when the slot was taken, else the milliseconds until one is free
   */
  take (name: string, rate: Rate | undefined, instances: number): number {
    const wait = rate === undefined ? 0 : this.#waitFor(rate, instances)
    if (wait === 0) this.#add(name, false)
    return wait
  }

  /** Adds a call that Redis has granted. */
  granted (name: string): void {
    this.#add(name, true)
  }

  /** Calls of the window that Redis may not know, as arguments of its script: for each the name, milliseconds since then, and 1 if it brought no URL. */
  unreported (windowMs: number): (string | number)[] {
    const now = this.#timers.now()
    const first = this.#calls.length - REPORTED_AGAIN
    return this.#calls.filter(({ isReported, at }, i) => (!isReported || i >= first) && at > now - windowMs).flatMap(({ name, at, isUnminted }) => [name, Math.floor(now - at), isUnminted ? 1 : 0])
  }

  /** Removes a call that does not count. */
  drop (name: string): void {
    this.#calls = this.#calls.filter((call) => call.name !== name)
  }

  /** Marks calls that brought no URL. */
  unminted (names: readonly string[]): void {
    for (const call of this.#calls) if (names.includes(call.name)) call.isUnminted = true
  }

  /** Marks calls that Redis knows now. */
  markReported (names: readonly unknown[]): void {
    for (const call of this.#calls) if (names.includes(call.name)) call.isReported = true
  }

  /** Marks all calls as not reported: Redis has lost them. */
  markAllUnreported (): void {
    for (const call of this.#calls) call.isReported = false
  }

  #waitFor ({ max, timeWindow }: Rate, instances: number): number {
    const share = Math.max(1, Math.floor(max / instances))
    const windowMs = timeWindow * Math.max(1, instances / max)
    const last = this.#calls.at(-share)
    return last === undefined ? 0 : Math.max(0, last.at + windowMs - this.#timers.now())
  }

  #add (name: string, isReported: boolean): void {
    this.#calls.push({ name, at: this.#timers.now(), isReported, isUnminted: false })
    if (this.#calls.length > 2 * MAX_CALLS) this.#calls = this.#calls.slice(-MAX_CALLS)
  }
}
