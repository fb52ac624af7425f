import type { Timers } from '../timers.js'

/**
 * Redis's clock as this process knows it: the time in Redis's replies, carried on by the monotonic clock. All machines agree
 * on it, whatever their own dates are. It is known within bounds: a reply's time lies between sending and receiving.
 */
export class RedisClock {
  readonly #timers: Timers
  /** Bounds of the difference: Redis's time minus the monotonic clock's. */
  #offset: { least: number, most: number } | undefined

  constructor (timers: Timers) {
    this.#timers = timers
  }

  get isKnown (): boolean {
    return this.#offset !== undefined
  }

  /** @param sentAt on the monotonic clock, ms */
  observe (redisMs: number, sentAt: number): void {
    const seen = { least: redisMs - this.#timers.now(), most: redisMs - sentAt }
    const known = this.#offset
    const both = known && { least: Math.max(seen.least, known.least), most: Math.min(seen.most, known.most) }
    this.#offset = both !== undefined && both.least <= both.most ? both : seen // another Redis after a failover has another clock
  }

  /** Milliseconds since 1970, for people: the machine's date until Redis has answered once. */
  now (): number {
    return Math.round(this.#offset === undefined ? this.#timers.date() : this.#timers.now() + this.#offset.most)
  }

  /** Redis's time at a moment of the monotonic clock, at the earliest. @throws before Redis's first answer */
  earliest (moment: number): number {
    return Math.floor(moment + this.#bounds().least)
  }

  /** Redis's time at a moment of the monotonic clock, at the latest. @throws before Redis's first answer */
  latest (moment: number): number {
    return Math.ceil(moment + this.#bounds().most)
  }

  /** Redis's time after which a call that is sent now must do nothing; 0 before Redis's first answer. */
  deadline (afterMs: number): number {
    return this.#offset === undefined ? 0 : this.latest(this.#timers.now() + afterMs)
  }

  #bounds (): { least: number, most: number } {
    if (this.#offset === undefined) throw new Error('Redis has not answered yet')
    return this.#offset
  }
}
