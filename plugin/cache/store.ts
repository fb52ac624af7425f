import { embedError, errorCodes, isEmbedError, type EmbedError, type EmbedErrorCode } from '../errors.js'
import type { Log } from '../observability/log.js'
import type { FleetClock } from '../redis/clock.js'
import type { RedisGuard } from '../redis/guard.js'
import type { RedisLike } from '../redis/redis-like.js'
import type { Keys, PairKeys } from './keys.js'
import type { Encryptor } from '../crypto/encryption.js'
import { CLAIM, FAIL, FORGET, LOOK, RELEASE, STORE } from './scripts.js'

/** A URL as this process holds it. */
export interface HeldUrl {
  redirectUrl: string
  urlId: string
  /** End of life in the fleet's time, ms since 1970: for people. */
  expiresAt: number
  /** End of life on this process's monotonic clock, ms: for deciding. */
  deadline: number
  /** As it is in Redis: what has not changed need not be opened again. */
  sealed?: string
}

/** Seconds of life left. */
export function secondsLeft (url: HeldUrl): number {
  return (url.deadline - performance.now()) / 1000
}

/** What asking for the lock came to; `lastUrl`: a URL with less life than wanted, but alive. */
export type Claim =
  | { kind: 'url', url: HeldUrl }
  | { kind: 'unreadable', urlId: string }
  | { kind: 'failed', error: EmbedError, lastUrl: HeldUrl | undefined }
  | { kind: 'wait', holder: string, lastUrl: HeldUrl | undefined }
  | { kind: 'mine', start: MintStart, lastUrl: HeldUrl | undefined }

/** The moment from which a URL's life counts: in the fleet's time and on this process's monotonic clock, ms. */
export interface MintStart {
  at: number
  monotonic: number
}

export interface ClaimAsk {
  owner: string
  boundMs: number
  /** Seconds. */
  minRemaining: number
  /** Id of a URL that is dead. */
  dead: string
  /** Id of a URL that does not open. */
  unreadable: string
  /** The holder waited for so far. */
  awaited: string
}

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
  readonly #encryptor: Encryptor
  readonly #log: Log

  constructor (parts: { guard: RedisGuard, clock: FleetClock, keys: Keys, encryptor: Encryptor, log: Log }) {
    this.#guard = parts.guard
    this.#clock = parts.clock
    this.#keys = parts.keys
    this.#encryptor = parts.encryptor
    this.#log = parts.log
  }

  /** @param known the URL as this process saw it last: kept up to date while it is the one in Redis */
  async look (pair: PairKeys, known?: HeldUrl): Promise<HeldUrl | undefined> {
    const askedAt = performance.now()
    const [urlId, sealed, leftText] = await this.#guard.run(
      (redis) => LOOK.run(redis, [pair.index], [pair.appKey])
    ) as [string, string, string | number]
    const left = Number(leftText)
    if (known !== undefined && sealed === known.sealed && left > 0) {
      known.deadline = askedAt + left
      return known
    }
    return this.#open(pair, { urlId, sealed, left, askedAt })
  }

  async claim (pair: PairKeys, ask: ClaimAsk): Promise<Claim> {
    const askedAt = performance.now()
    const [kind, detail, urlId, sealed, left, now] = await this.#guard.run(
      (redis) => CLAIM.run(redis,
        [pair.index, pair.lock, pair.outcome],
        [ask.owner, ask.boundMs, Math.ceil(ask.minRemaining * 1000), ask.dead, ask.unreadable, ask.awaited, pair.appKey]
      ),
      (redis) => RELEASE.run(redis, [pair.lock], [ask.owner])
    ) as [Claim['kind'], string, string, string, string | number, string | number]
    this.#clock.set(Number(now))

    const url = this.#open(pair, { urlId, sealed, left: Number(left), askedAt })
    switch (kind) {
      case 'url':
        return url === undefined ? { kind: 'unreadable', urlId } : { kind, url }
      case 'failed':
        return { kind, error: readOutcome(detail), lastUrl: url }
      case 'wait':
        return { kind, holder: detail, lastUrl: url }
      default:
        return { kind: 'mine', start: { at: Number(now), monotonic: askedAt }, lastUrl: url }
    }
  }

  /**
   * @param appKeys all names of the app
   * @param owner of the lock; '' for a URL that was minted while Redis was away
   * @returns whether it was stored: not by one whose lock has passed to another, nor after a `forget`
   */
  async store (pair: PairKeys, appKeys: string[], owner: string, url: HeldUrl): Promise<boolean> {
    const plain = JSON.stringify([url.redirectUrl, url.expiresAt, ...appKeys])
    const sealed = this.#encryptor.encrypt(this.#keys.url(pair.user, url.urlId), plain).toString('base64url')
    const stored = await this.#orLetGo(pair, owner, (redis) => STORE.run(redis,
      [pair.index, pair.lock, pair.outcome],
      [owner, url.expiresAt, url.urlId, sealed, ...appKeys]
    ))
    return Number(stored) === 1
  }

  /** Ends the holder's mint without a URL; a denial also ends the URL that is still cached. */
  async fail (pair: PairKeys, owner: string, error: unknown): Promise<void> {
    const denial = isDenial(error)
    await this.#orLetGo(pair, owner, (redis) => FAIL.run(redis,
      [pair.index, pair.lock, pair.outcome],
      [owner, writeOutcome(owner, denial, error), denial ? DENIAL_MS : FAILURE_MS, denial ? '1' : '0', pair.appKey]
    ))
  }

  /**
   * @param appKey one app; `undefined`: all of the user's
   * @returns how many URLs were dropped
   */
  async forget (user: string, appKey = ''): Promise<number> {
    return Number(await this.#guard.run((redis) => FORGET.run(redis, [this.#keys.index(user)], [appKey])))
  }

  /** A holder that cannot reach Redis right now leaves a lock behind for as short as can be. */
  async #orLetGo<T> (pair: PairKeys, owner: string, command: (redis: RedisLike) => Promise<T>): Promise<T> {
    try {
      return await this.#guard.run(command)
    } catch (error) {
      this.#guard.post((redis) => RELEASE.run(redis, [pair.lock], [owner]))
      throw error
    }
  }

  #open (pair: PairKeys, { urlId, sealed, left, askedAt }: { urlId: string, sealed: string, left: number, askedAt: number }): HeldUrl | undefined {
    if (sealed === '' || left <= 0) return undefined
    const key = this.#keys.url(pair.user, urlId)
    const plain = this.#encryptor.decrypt(key, Buffer.from(sealed, 'base64url'))
    if (plain !== undefined) {
      const [redirectUrl, expiresAt, ...appKeys] = JSON.parse(plain) as [string, number, ...string[]]
      if (appKeys.includes(pair.appKey)) return { redirectUrl, urlId, expiresAt, deadline: askedAt + left, sealed }
    }
    this.#log.warn({ key }, 'tooljet-embed: a cached URL does not open with the keys of this instance, it is not used')
    return undefined
  }
}

function writeOutcome (holder: string, denial: boolean, error: unknown): string {
  const { code, retryAfter } = isEmbedError(error) ? error : embedError('TOOLJET_EMBED_UNAVAILABLE')
  return `${holder} ${denial ? 1 : 0} ${JSON.stringify({ code, retryAfter })}`
}

function readOutcome (outcome: string): EmbedError {
  const { code, retryAfter } = JSON.parse(outcome.slice(outcome.indexOf('{'))) as { code: EmbedErrorCode, retryAfter?: number }
  // an instance of another version may know more codes
  return embedError(Object.hasOwn(errorCodes, code) ? code : 'TOOLJET_EMBED_UNAVAILABLE', { retryAfter })
}
