/** A moment on both of the browser's clocks. */
export type Moment = readonly [steady: number, wall: number]

/** Milliseconds on the clock that nobody can set. */
export const steadyTime = (): number => performance.now()

export const now = (): Moment => [steadyTime(), Date.now()]

/**
 * Milliseconds that have passed, rather too many than too few: the steady clock may stand still while the machine
 * sleeps, and the other may be set.
 */
export function msSince ([steady, wall]: Moment): number {
  return Math.max(steadyTime() - steady, Date.now() - wall)
}
