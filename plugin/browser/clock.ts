/** Milliseconds of the monotonic clock, which may stand still while the machine sleeps. */
export const monotonicNow = (): number => performance.now()

/** Difference of the date to the monotonic clock, ms. */
export const clockOffset = (): number => Date.now() - monotonicNow()
