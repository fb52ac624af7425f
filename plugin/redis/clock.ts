import type { Timers } from '../timers.js'

/**
 * Redis's clock, carried on by this process's monotonic clock between two readings: a machine whose own date is wrong
 * thus agrees with all others. A reading is known within bounds: it was taken between sending and receiving.
 */
export class RedisClock {
  readonly #timers: Timers
  /** Redis's time less the monotonic clock's is at least, and at most, this. */
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

  /** Milliseconds since 1970, for people: by the machine's date while Redis was never heard. */
  now (): number {
    return Math.round(this.#offset === undefined ? this.#timers.date() : this.#timers.now() + this.#offset.most)
  }

  /** Redis's time at a moment of the monotonic clock, at the earliest. @throws while Redis was never heard */
  earliest (moment: number): number {
    return Math.floor(moment + this.#known().least)
  }

  /** Redis's time at a moment of the monotonic clock, at the latest. @throws while Redis was never heard */
  latest (moment: number): number {
    return Math.ceil(moment + this.#known().most)
  }

  /** Redis's time after which a call that is sent now is to do nothing; 0 while Redis was never heard. */
  deadline (afterMs: number): number {
    return this.#offset === undefined ? 0 : this.latest(this.#timers.now() + afterMs)
  }

  #known (): { least: number, most: number } {
    if (this.#offset === undefined) throw new Error('Redis was never heard')
    return this.#offset
  }
}
