import type { Timers } from '../timers.js'
import type { Rate } from './mint-limit.js'

interface Call {
  name: string
  /** On the monotonic clock. */
  at: number
  isTold: boolean
  /** It brought no URL. */
  isUnminted: boolean
}

/** So many of the last ones are told again and again: a Redis that has come back with older data knows them no more. */
const TOLD_AGAIN = 20
/** While no limit is known, so many are remembered. */
const MAX_CALLS = 1000

/** The last calls of this instance: what it takes without Redis is its share of the limit, and counts when Redis is there again. */
export class OwnCalls {
  readonly #timers: Timers
  #calls: Call[] = []

  constructor (timers: Timers) {
    this.#timers = timers
  }

  /**
   * Takes a slot without Redis.
   * @param rate `undefined`: no limit is known
   * @param instances that share it
   * @returns 0 when it is taken, else milliseconds until there is one
   */
  take (name: string, rate: Rate | undefined, instances: number): number {
    const wait = rate === undefined ? 0 : this.#waitFor(rate, instances)
    if (wait === 0) this.#add(name, false)
    return wait
  }

  /** Redis has granted it. */
  granted (name: string): void {
    this.#add(name, true)
  }

  /** What Redis may not know, if it may count still: name, milliseconds since then, and whether it brought no URL, of each. */
  toTell (windowMs: number): (string | number)[] {
    const now = this.#timers.now()
    const first = this.#calls.length - TOLD_AGAIN
    return this.#calls.filter(({ isTold, at }, i) => (!isTold || i >= first) && at > now - windowMs).flatMap(({ name, at, isUnminted }) => [name, Math.floor(now - at), isUnminted ? 1 : 0])
  }

  /** It does not count. */
  drop (name: string): void {
    this.#calls = this.#calls.filter((call) => call.name !== name)
  }

  /** They brought no URL. */
  unminted (names: readonly string[]): void {
    for (const call of this.#calls) if (names.includes(call.name)) call.isUnminted = true
  }

  /** Redis knows them. */
  told (names: readonly unknown[]): void {
    for (const call of this.#calls) if (names.includes(call.name)) call.isTold = true
  }

  /** Redis has lost what it knew. */
  forgotten (): void {
    for (const call of this.#calls) call.isTold = false
  }

  #waitFor ({ max, timeWindow }: Rate, instances: number): number {
    const share = Math.max(1, Math.floor(max / instances))
    const windowMs = timeWindow * Math.max(1, instances / max)
    const last = this.#calls.at(-share)
    return last === undefined ? 0 : Math.max(0, last.at + windowMs - this.#timers.now())
  }

  #add (name: string, isTold: boolean): void {
    this.#calls.push({ name, at: this.#timers.now(), isTold, isUnminted: false })
    if (this.#calls.length > 2 * MAX_CALLS) this.#calls = this.#calls.slice(-MAX_CALLS)
  }
}
