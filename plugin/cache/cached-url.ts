import type { App } from '../access/apps.js'

/** A decrypted URL in this process. */
export interface CachedUrl {
  redirectUrl: string
  urlId: string
  /** Every name by which ToolJet knows its app: `id:…`, `slug:…`. */
  names: readonly string[]
  /** Earliest possible start of its mint call, on this process's monotonic clock, ms. */
  bornAt: number
  /** Lifetime in milliseconds, from the start of its mint call. */
  lifeMs: number
  /** The same start by Redis's clock, ms since 1970; `undefined` for a URL that was minted before Redis's first answer. */
  startsAt: number | undefined
  /** Its end as `expiresAt` gave it last. */
  end?: { ms: number, iso: string }
}

/** Lifetime of an app's URL in milliseconds: its own, or that of this name of the app if it is shorter. */
function lifeMsFor (app: Pick<App, 'patExpiry'>, url: CachedUrl): number {
  return Math.min(url.lifeMs, app.patExpiry * 1000)
}

/** Seconds of life left. @param now on the monotonic clock, ms */
export function secondsLeft (app: Pick<App, 'patExpiry'>, url: CachedUrl, now: number): number {
  return (url.bornAt + lifeMsFor(app, url) - now) / 1000
}

/** End of life, ISO 8601, for people. @param clock Redis's, for a URL that was never in Redis */
export function expiresAt (app: Pick<App, 'patExpiry'>, url: CachedUrl, clock: { now: () => number }, now: number): string {
  const ms = (url.startsAt ?? clock.now() - (now - url.bornAt)) + lifeMsFor(app, url)
  if (url.end?.ms !== ms) url.end = { ms, iso: new Date(ms).toISOString() }
  return url.end.iso
}

/** Whether its mint began later, by Redis's clock. */
export function isYounger (one: CachedUrl, other: CachedUrl): boolean {
  return one.startsAt !== undefined && other.startsAt !== undefined && one.startsAt > other.startsAt
}

/** Whether a forget of this name concerns a URL whose app has these names; the same rule is in `user.lua`. */
export function concerns (names: readonly string[], forgotten: string): boolean {
  if (forgotten === '*' || names.includes(forgotten)) return true
  const kind = forgotten.slice(0, forgotten.indexOf(':') + 1)
  return !names.some((name) => name.startsWith(kind))
}
