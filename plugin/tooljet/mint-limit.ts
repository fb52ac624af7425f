/** How many mints the fleet may request from a ToolJet. */
export type MintLimit = 'auto' | false | Rate

/** At most `max` calls in any window. */
export interface Rate {
  max: number
  /** Milliseconds. */
  timeWindow: number
}

export function perMinute ({ max, timeWindow }: Rate): number {
  return Math.round(max * 60_000 / timeWindow * 100) / 100
}
