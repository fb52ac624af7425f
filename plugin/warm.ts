import type { App, AppAsk, AppLookup, Apps } from './access/apps.js'
import { parseUser, type User } from './access/identity.js'
import type { Audit } from './audit/audit.js'
import type { AuditEvent } from './audit/event.js'
import { Held } from './cache/mint.js'
import { isDenial } from './cache/store.js'
import type { UrlCache, UrlResult } from './cache/url-cache.js'
import { codeOf, embedError, isEmbedError } from './errors.js'
import type { Timers } from './timers.js'
import { Spellings } from './tooljet/spellings.js'
import type { TooljetTarget } from './tooljet/target.js'
import type { ToolJet } from './tooljet/tooljet.js'
import type { ToolJetRegistry } from './tooljet/registry.js'

/** A user and an app whose URL is minted in advance. */
export type TooljetEmbedWarmPair = AppAsk & {
  /** Of the user. */
  email: string
  /** Where option `tooljet` is a function, and only there: the user's ToolJet, as the function returns it. */
  tooljet?: TooljetTarget
}

/** Progress of `warm()`. */
export interface TooljetEmbedWarmProgress {
  /** Pairs that are finished. */
  done: number
  /** Pairs of the list. */
  total: number
  /** Those for which a URL was minted. */
  minted: number
  /** Those whose URL was already cached. */
  alreadyCached: number
  /** Those that were denied, or failed for ten minutes. */
  failed: number
}

/** Options of `warm()`. */
export interface TooljetEmbedWarmOptions {
  /** Ends it after the mint calls that are under way; what was minted until then is cached. */
  signal?: AbortSignal
  /** Called after each pair. */
  onProgress?: (progress: TooljetEmbedWarmProgress) => void
  /** Seconds of life that a cached URL must still have to cost no call. @default minRemaining */
  validFor?: number
}

/** Result of `warm()`. */
export interface TooljetEmbedWarmReport {
  /** Pairs for which a URL was minted. */
  minted: number
  /** Pairs whose URL was already cached. */
  alreadyCached: number
  /** Pairs that were denied, or failed for ten minutes. `app`: alias, id or slug, as it was given. */
  failed: { email: string, app: string | undefined, code: string }[]
}

interface WarmDeps {
  apps: Apps
  tooljets: ToolJetRegistry
  cache: UrlCache
  audit: Audit
  timers: Timers
  /** Aborted when the app closes. */
  closing: AbortSignal
}

/** Pairs in progress at the same time. */
const AT_A_TIME = 4
/** A pair that fails for this long is given up, ms. */
const PATIENCE_MS = 600_000
/** Longest time until a stop is noticed, ms. */
const LONGEST_NAP_MS = 1000

/** Fills the cache in advance; users who wait for a URL come first. */
export class Warming {
  readonly #deps: WarmDeps
  readonly #options: TooljetEmbedWarmOptions
  readonly #report: TooljetEmbedWarmReport = { minted: 0, alreadyCached: 0, failed: [] }
  #done = 0
  #hasFailed = false

  constructor (deps: WarmDeps, options: TooljetEmbedWarmOptions = {}) {
    this.#deps = deps
    this.#options = options
    const { validFor } = options
    if (validFor !== undefined && !(Number.isFinite(validFor) && validFor >= 0)) throw badRequest('expects a number of seconds as "validFor"')
  }

  /** @throws TOOLJET_EMBED_BAD_REQUEST when the list is none */
  async run (list: readonly TooljetEmbedWarmPair[]): Promise<TooljetEmbedWarmReport> {
    if (!Array.isArray(list)) throw badRequest('expects a list of { email, appId or appSlug or app }')
    let next = 0
    const work = async (): Promise<void> => {
      while (next < list.length && !this.#isStopped) {
        const pair: unknown = list[next++]
        await this.#warm(Object(pair) as TooljetEmbedWarmPair)
        if (this.#isStopped) return
        const { minted, alreadyCached, failed } = this.#report
        this.#options.onProgress?.({ done: ++this.#done, total: list.length, minted, alreadyCached, failed: failed.length })
      }
    }
    const workers = Array.from({ length: AT_A_TIME }, () => work().catch((error: unknown) => {
      this.#hasFailed = true // stops the other workers
      throw error
    }))
    await Promise.allSettled(workers)
    await Promise.all(workers)
    return this.#report
  }

  get #isStopped (): boolean {
    return this.#hasFailed || this.#options.signal?.aborted === true || this.#deps.closing.aborted
  }

  async #warm (pair: TooljetEmbedWarmPair): Promise<void> {
    const { apps, tooljets, audit } = this.#deps
    const { email: given, tooljet: target, ...lookup } = pair
    const startedAt = performance.now()
    const user = parseUser(given)
    let app: App | undefined
    let tooljet: ToolJet | undefined
    const event = (): AuditEvent => ({ event: 'url.warmed', email: user?.email, app: app?.displayName ?? apps.displayNameOf(lookup), tooljet: tooljets.displayNameOf(tooljet), durationMs: performance.now() - startedAt })
    try {
      if (user === undefined) throw badRequest('expects the "email" of a user')
      app = apps.resolve(lookup)
      tooljet = tooljets.fromTarget(target)
      const { validFor = app.minRemaining } = this.#options
      if (validFor >= app.patExpiry) throw badRequest(`expects a "validFor" that is less than patExpiry (${app.patExpiry})`)
      const url = await this.#getWithRetries(user, { ...app, minRemaining: validFor }, tooljet)
      if (url === undefined) return // stopped
      if (url.source === 'minted') this.#report.minted++
      else this.#report.alreadyCached++
      audit.record({ ...event(), urlId: url.urlId, expiresAt: url.expiresAt })
    } catch (error) {
      if (!isEmbedError(error)) throw error
      this.#report.failed.push({ email: String(given ?? ''), app: apps.displayNameOf(lookup as AppLookup), code: codeOf(error) })
      audit.record({ ...event(), code: codeOf(error) })
    }
  }

  /** @returns nothing when warming was stopped @throws a denial, and a failure that lasts */
  async #getWithRetries (user: User, app: App, tooljet: ToolJet): Promise<UrlResult | undefined> {
    let failingSince: number | undefined
    for (;;) {
      if (this.#isStopped) return undefined
      try {
        const url = await this.#get(user, app, tooljet)
        if (url.secondsLeft >= app.minRemaining) return url
        throw embedError('TOOLJET_EMBED_UNAVAILABLE', { detail: 'the cached URL ends too soon' })
      } catch (error) {
        if (error instanceof Held) {
          failingSince = undefined
          await this.#nap(error.ms)
          continue
        }
        const { now } = this.#deps.timers
        failingSince ??= now()
        if (!isTransient(error) || now() - failingSince > PATIENCE_MS) throw error
        await this.#nap((error.retryAfter ?? 5) * 1000)
      }
    }
  }

  /** @throws Held while it is not its turn, and what the mint throws */
  #get (user: User, app: App, tooljet: ToolJet): Promise<UrlResult> {
    const { lockTtlMs, timeoutMs } = tooljet
    const userHash = tooljet.userHash(user.email)
    return this.#deps.cache.get({ user: userHash, app, lockTtlMs, mintTimeoutMs: timeoutMs, isInNoHurry: true }, ({ checkLock, heldMs, spelling, keepSpelling }) => (
      tooljet.mint({ spellings: new Spellings(user, { id: '-', app: app.key }, spelling, keepSpelling), user: userHash, app, purpose: 'warm', maxPlaces: 0, heldMs, count: () => undefined, checkLock })
    ))
  }

  async #nap (ms: number): Promise<void> {
    for (let left = ms; left > 0 && !this.#isStopped; left -= LONGEST_NAP_MS) await this.#deps.timers.sleep(Math.min(left, LONGEST_NAP_MS))
  }
}

/** Whether another try makes sense: not after a denial by ToolJet or for a bad request. */
function isTransient (error: unknown): error is Error & { retryAfter?: number } {
  return isEmbedError(error) && !isDenial(error) && (error.statusCode === 429 || error.statusCode >= 500)
}

function badRequest (detail: string) {
  return embedError('TOOLJET_EMBED_BAD_REQUEST', { detail: `warm ${detail}` })
}
