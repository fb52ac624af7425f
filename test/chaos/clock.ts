const skew = Date.now() - performance.timeOrigin - performance.now()

/** Milliseconds since 1970 that never jump. */
export function now (): number {
  return performance.timeOrigin + performance.now() + skew
}
