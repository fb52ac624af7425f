/**
 * The fleet's clock: Redis's, carried on by this process's monotonic clock between two readings.
 * A machine whose own date is wrong thus agrees with all others.
 */
export class FleetClock {
  #offset = Date.now() - performance.now()

  /** Milliseconds since 1970. */
  now (): number {
    return Math.round(performance.now() + this.#offset)
  }

  /** @param redisMs what `TIME` said just now, in milliseconds */
  set (redisMs: number): void {
    this.#offset = redisMs - performance.now()
  }
}

/** `TIME`'s seconds and microseconds in milliseconds. */
export function timeToMs ([seconds, microseconds]: (string | number)[]): number {
  return Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000)
}
