import type { Timers } from '../timers.js'
import type { Rate } from './mint-limit.js'

interface Call {
  name: string
  /** On the monotonic clock. */
  at: number
  isTold: boolean
}

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

  /** What Redis does not know, if it may count still: name, and milliseconds since then, of each. */
  untold (windowMs: number): (string | number)[] {
    const now = this.#timers.now()
    return this.#calls.filter(({ isTold, at }) => !isTold && at > now - windowMs).flatMap(({ name, at }) => [name, Math.floor(now - at)])
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
    this.#calls.push({ name, at: this.#timers.now(), isTold })
    if (this.#calls.length > 2 * MAX_CALLS) this.#calls = this.#calls.slice(-MAX_CALLS)
  }
}
