import type { App } from '../access/apps.js'

/** A URL as this process holds it. */
export interface CachedUrl {
  redirectUrl: string
  urlId: string
  /** Every name by which ToolJet knows its app: `id:…`, `slug:…`. */
  names: readonly string[]
  /** Start of its mint call on this process's monotonic clock, ms, at the earliest. */
  bornAt: number
  /** Milliseconds, from the start of its mint call. */
  lifeMs: number
  /** The same start by Redis's clock, ms since 1970; not known of a URL that was minted while Redis was never heard. */
  startsAt: number | undefined
}

/** Milliseconds of life that an app's URL has: its own, or less where this name of the app has less. */
function lifeMsFor (app: Pick<App, 'patExpiry'>, url: CachedUrl): number {
  return Math.min(url.lifeMs, app.patExpiry * 1000)
}

/** Seconds of life left. @param now on the monotonic clock, ms */
export function secondsLeft (app: Pick<App, 'patExpiry'>, url: CachedUrl, now: number): number {
  return (url.bornAt + lifeMsFor(app, url) - now) / 1000
}

/** End of life in milliseconds since 1970, for people. @param clock Redis's, for a URL of which Redis was never told */
export function expiresAt (app: Pick<App, 'patExpiry'>, url: CachedUrl, clock: { now: () => number }, now: number): number {
  return (url.startsAt ?? clock.now() - (now - url.bornAt)) + lifeMsFor(app, url)
}

/** Whether what was forgotten by this name is a URL with these: as in `user.lua`. */
export function concerns (names: readonly string[], forgotten: string): boolean {
  if (forgotten === '*' || names.includes(forgotten)) return true
  const kind = forgotten.slice(0, forgotten.indexOf(':') + 1)
  return !names.some((name) => name.startsWith(kind))
}
