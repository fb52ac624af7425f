/** Milliseconds on the clock that nobody can set, and that may stand still while the machine sleeps. */
export const steadyTime = (): number => performance.now()

/** How far the other clock is ahead of it. */
export const clockOffset = (): number => Date.now() - steadyTime()
