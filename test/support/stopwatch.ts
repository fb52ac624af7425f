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
