import { embedError, isEmbedError, type EmbedError, type EmbedErrorCode } from '../errors.js'
import type { Log } from '../log.js'
import type { FleetClock } from '../redis/clock.js'
import type { RedisGuard } from '../redis/guard.js'
import type { RedisLike } from '../redis/redis-like.js'
import type { Keys, PairKeys } from './keys.js'
import type { Sealer } from './sealing.js'
import { CLAIM, FAIL, FORGET, LOOK, STORE } from './scripts.js'

/** A URL as this process holds it. */
export interface HeldUrl {
  redirectUrl: string
  urlId: string
  /** End of life in the fleet's time, ms since 1970: for people. */
  expiresAt: number
  /** End of life on this process's monotonic clock, ms: for deciding. */
  deadline: number
}

/** Seconds of life left. */
export function secondsLeft (url: HeldUrl): number {
  return (url.deadline - performance.now()) / 1000
}

/** What asking for the lock came to; `lastUrl`: a URL with less life than wanted, but alive. */
export type Claim =
  | { kind: 'url', url: HeldUrl }
  | { kind: 'unreadable', value: string }
  | { kind: 'failed', error: EmbedError, lastUrl?: HeldUrl | undefined }
  | { kind: 'wait', holder: string }
  | { kind: 'mine', startedAt: number, start: number, lastUrl?: HeldUrl | undefined }

/** ToolJet's verdicts on user and app; any other failure may be over the next moment. */
const DENIALS: ReadonlySet<EmbedErrorCode> = new Set([
  'TOOLJET_EMBED_USER_NOT_FOUND', 'TOOLJET_EMBED_ACCESS_DENIED', 'TOOLJET_EMBED_APP_NOT_FOUND',
])
const DENIAL_MS = 30_000
/** Longer than any pause between two looks of one who waits. */
const FAILURE_MS = 5_000

export function isDenial (error: unknown): boolean {
  return isEmbedError(error) && DENIALS.has(error.code)
}

/** The cached URLs in Redis. Every method throws TOOLJET_EMBED_REDIS_DOWN when Redis is away. */
export class UrlStore {
  readonly #guard: RedisGuard
  readonly #clock: FleetClock
  readonly #keys: Keys
  readonly #sealer: Sealer
  readonly #log: Log

  constructor (parts: { guard: RedisGuard, clock: FleetClock, keys: Keys, sealer: Sealer, log: Log }) {
    this.#guard = parts.guard
    this.#clock = parts.clock
    this.#keys = parts.keys
    this.#sealer = parts.sealer
    this.#log = parts.log
  }

  async look (pair: PairKeys): Promise<HeldUrl | undefined> {
    const askedAt = performance.now()
    const [value, left] = await this.#guard.run((redis) => LOOK.run(redis, [pair.url], [])) as [string, number]
    return this.#open(pair, value, Number(left), askedAt)
  }

  async claim (pair: PairKeys, ask: { owner: string, boundMs: number, minRemaining: number, unwanted: string, awaited: string, appKey: string }): Promise<Claim> {
    const askedAt = performance.now()
    const [kind, detail, value, leftText, now] = await this.#guard.run((redis) => CLAIM.run(redis,
      [pair.lock, pair.url, pair.outcome, pair.index],
      [ask.owner, ask.boundMs, Math.ceil(ask.minRemaining * 1000), ask.unwanted, ask.awaited, ask.appKey]
    )) as [Claim['kind'], string, string, number, number]
    const left = Number(leftText)
    this.#clock.set(Number(now))

    switch (kind) {
      case 'url': {
        const url = this.#open(pair, value, left, askedAt)
        return url === undefined ? { kind: 'unreadable', value } : { kind, url }
      }
      case 'failed':
        return { kind, error: readOutcome(detail), lastUrl: this.#open(pair, value, left, askedAt) }
      case 'wait':
        return { kind, holder: detail }
      default:
        return { kind: 'mine', startedAt: Number(now), start: askedAt, lastUrl: this.#open(pair, value, left, askedAt) }
    }
  }

  /** @returns whether it was stored: not by one whose lock has passed to another, nor after a `forget` */
  async store (email: string, appKeys: string[], owner: string, url: HeldUrl): Promise<boolean> {
    const pairs = appKeys.map((appKey) => this.#keys.pair(email, appKey))
    const { lock, outcome, index } = pairs[0]!
    const values = pairs.flatMap((pair, i) => [appKeys[i]!, this.#seal(pair, url)])
    return await this.#guard.run((redis) => STORE.run(redis,
      [lock, outcome, index, ...pairs.map((pair) => pair.url)],
      [owner, url.expiresAt, url.urlId, ...values]
    )) === 1
  }

  /** Ends the holder's mint without a URL; a denial also ends the URL that is still cached. */
  async fail (email: string, appKey: string, owner: string, error: unknown): Promise<void> {
    const pair = this.#keys.pair(email, appKey)
    if (isDenial(error)) await this.forget(email, appKey)
    await this.#guard.run((redis) => failed(redis, pair, owner, error))
  }

  /** Leaves no lock behind where Redis did get a claim whose answer did not come. */
  letGo (pair: PairKeys, owner: string, redisDown: unknown): void {
    const wasSent = redisDown instanceof Error && redisDown.cause !== undefined
    if (wasSent) this.#guard.post((redis) => failed(redis, pair, owner, redisDown))
  }

  /**
   * @param appKey one app; `undefined`: all of the user's
   * @returns how many URLs were dropped
   */
  async forget (email: string, appKey?: string): Promise<number> {
    const index = this.#keys.index(email)
    const urlIds = await this.#guard.run((redis) => redis.hgetall(index))
    const appKeys = appKey === undefined
      ? Object.keys(urlIds)
      : [appKey, ...Object.keys(urlIds).filter((other) => other !== appKey && urlIds[appKey] && urlIds[other] === urlIds[appKey])]
    if (appKeys.length === 0) return 0
    const keys = appKeys.flatMap((key) => {
      const { url, lock, outcome } = this.#keys.pair(email, key)
      return [url, lock, outcome]
    })
    const dropped = await this.#guard.run((redis) => FORGET.run(redis, [index, ...keys], appKeys)) as number[]
    // one URL may be cached under two names of its app
    return new Set(appKeys.filter((_, i) => dropped[i] === 1).map((key) => urlIds[key])).size
  }

  #seal (pair: PairKeys, url: HeldUrl): string {
    const plain = JSON.stringify([url.redirectUrl, url.expiresAt])
    return `${url.urlId}.${this.#sealer.seal(`${pair.url}\n${url.urlId}`, plain)}`
  }

  #open (pair: PairKeys, value: string, leftMs: number, askedAt: number): HeldUrl | undefined {
    if (value === '' || leftMs <= 0) return undefined
    const dot = value.indexOf('.')
    const urlId = value.slice(0, dot)
    const plain = this.#sealer.open(`${pair.url}\n${urlId}`, value.slice(dot + 1))
    if (plain === undefined) {
      this.#log.warn({ key: pair.url }, 'tooljet-embed: a cached URL does not open with the keys of this instance, it is not used')
      return undefined
    }
    const [redirectUrl, expiresAt] = JSON.parse(plain) as [string, number]
    return { redirectUrl, urlId, expiresAt, deadline: askedAt + leftMs }
  }
}

function failed (redis: RedisLike, pair: PairKeys, owner: string, error: unknown): Promise<unknown> {
  const denial = isDenial(error)
  return FAIL.run(redis,
    [pair.lock, pair.outcome],
    [owner, writeOutcome(owner, denial, error), denial ? DENIAL_MS : FAILURE_MS]
  )
}

function writeOutcome (holder: string, denial: boolean, error: unknown): string {
  const { code, retryAfter } = isEmbedError(error) ? error : embedError('TOOLJET_EMBED_UNAVAILABLE')
  return `${holder} ${denial ? 1 : 0} ${JSON.stringify({ code, retryAfter })}`
}

function readOutcome (outcome: string): EmbedError {
  const { code, retryAfter } = JSON.parse(outcome.slice(outcome.indexOf('{'))) as { code: EmbedErrorCode, retryAfter?: number }
  return embedError(code, { retryAfter })
}
