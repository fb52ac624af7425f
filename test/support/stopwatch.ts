const TICK_MS = 10

/**
 * Milliseconds of waiting as this process lived them, for bounds: a machine that is too busy to run it stops the watch,
 * and so does work that keeps its event loop busy.
 */
export function stopwatch (): () => number {
  let ticks = 0
  const timer = setInterval(() => { ticks++ }, TICK_MS)
  timer.unref()
  return () => {
    clearInterval(timer)
    return ticks * TICK_MS
  }
}

/** How long at a time the machine has kept this process waiting, ms: what comes from others is seen so much later than it is. */
export function longestStall (): () => number {
  let worst = 0
  let last = performance.now()
  const timer = setInterval(() => {
    const now = performance.now()
    worst = Math.max(worst, now - last - TICK_MS)
    last = now
  }, TICK_MS)
  timer.unref()
  return () => {
    clearInterval(timer)
    return worst
  }
}
