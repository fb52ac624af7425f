import type { App } from '../access/apps.js'
import { randomId } from '../crypto/random-id.js'
import { embedError, isRedisOutage } from '../errors.js'
import type { RedisCircuitBreaker } from '../redis/circuit-breaker.js'
import type { RedisClock } from '../redis/clock.js'
import type { ScriptClient } from '../redis/script-client.js'
import type { Timers } from '../timers.js'
import { expiresAt, isYounger, secondsLeft, type CachedUrl } from './cached-url.js'
import { ForgetLog } from './forget-log.js'
import { isForgotten, Loads, type Load } from './loads.js'
import { LocalCache, type MemoryEntry } from './local-cache.js'
import { Held, LockExpired, type Mint } from './mint.js'
import { isDenial, type Claim, type MintStart, type UrlStore } from './store.js'

/** A request for a URL. */
export interface UrlRequest {
  /** What stands for the user in key names. */
  user: string
  app: App
  /** Id of a URL that is no longer valid. */
  replaces?: string | undefined
  /** What `prefetch` returned. */
  prefetched?: Promise<CachedUrl | undefined> | undefined
  /** Longest time that a mint takes, from taking the lock to storing the URL, ms. */
  lockTtlMs: number
  /** Longest time of the mint call alone, ms. */
  mintTimeoutMs: number
  /** For `warm`: throws `Held` where it would have to wait for a turn, for Redis, or for a mint that may be of its app. */
  isInNoHurry?: boolean
}

export interface UrlResult {
  redirectUrl: string
  urlId: string
  source: 'minted' | 'reused'
  /** ISO 8601, for people. */
  expiresAt: string
  secondsLeft: number
}

/** Result of one load: all requests that joined it share the URL, and one of them answers `minted`. */
interface LoadResult {
  url: CachedUrl
  minted: boolean
  /** On the monotonic clock: a request that joined later has to load again, for the URL may have been forgotten before it joined. */
  validFor: number
}

/** A load without a result. */
const ENDED = { url: undefined, minted: false, validFor: -Infinity }

type RunningLoad = UrlRequest & Load

/** For how long a request that is in no hurry is held back while Redis is unavailable. */
const NO_REDIS_MS = 1000
const FIRST_PAUSE_MS = 15
const LAST_PAUSE_MS = 100

/** Reuses URLs until their end, and mints a new one once: requests of a process share a load, processes a lock in Redis. */
export class UrlCache {
  readonly #store: UrlStore
  readonly #breaker: RedisCircuitBreaker
  readonly #scripts: ScriptClient
  readonly #clock: RedisClock
  readonly #timers: Timers
  readonly #serveWithoutRedis: boolean
  readonly #local: LocalCache
  readonly #forgets: ForgetLog
  readonly #loads = new Loads<LoadResult>()

  constructor (
    deps: { store: UrlStore, breaker: RedisCircuitBreaker, scripts: ScriptClient, clock: RedisClock, timers: Timers },
    { serveWithoutRedis, forgetLogKey, longestLifeMs, maxUsers }: { serveWithoutRedis: boolean, forgetLogKey: string, longestLifeMs: number, maxUsers?: number | undefined }
  ) {
    this.#store = deps.store
    this.#breaker = deps.breaker
    this.#scripts = deps.scripts
    this.#clock = deps.clock
    this.#timers = deps.timers
    this.#serveWithoutRedis = serveWithoutRedis
    this.#local = new LocalCache(deps.timers, maxUsers)
    this.#forgets = new ForgetLog(deps, {
      key: forgetLogKey,
      longestLifeMs,
      maxUsers,
      onForget: (user, { names, moment }) => this.#drop(user, names, (url) => this.#startOf(url) <= moment),
    })
  }

  open (): void {
    this.#forgets.open()
  }

  close (): void {
    this.#forgets.close()
  }

  /** Reads what was forgotten during an outage. @throws what the client throws */
  async catchUp (): Promise<void> {
    await this.#forgets.read((...call) => this.#scripts.attempt(...call))
  }

  /** Redis is available again. */
  restored (): void {
    this.#loads.closeAll() // a mint without Redis does not know what was forgotten
    this.#forgets.writePendingSoon()
  }

  /** Asks Redis for the cached URL before it is needed. The result is for `get`, and need not be used. */
  prefetch (user: string, app: App): Promise<CachedUrl | undefined> {
    const found = this.#lookUp(user, app)
    found.catch(() => { /* `get` throws it */ })
    return found
  }

  /** @throws what `mint` throws, when there is no valid URL to fall back on */
  async get (request: UrlRequest, mint: Mint): Promise<UrlResult> {
    const cached = await (request.prefetched ?? this.#lookUp(request.user, request.app))
    if (request.isInNoHurry === true && this.#breaker.isOpen) throw new Held(NO_REDIS_MS) // a URL in the memory of one instance is of no use to the fleet
    if (cached !== undefined && this.#isUsable(request, cached)) return this.#resultOf(request, cached, 'reused')

    for (;;) {
      const joinedAt = this.#timers.now()
      const shared = this.#loads.find(request)
      const load = shared ?? this.#loads.start({ ...request, forgotten: [] }, (load) => this.#load(load, mint))
      const { url, minted, validFor } = await load.catch((error: unknown) => {
        if (shared !== undefined && error instanceof Held) return ENDED // the one who began the load was in no hurry
        throw error
      })
      if (url === undefined || secondsLeft(request.app, url, this.#timers.now()) <= 0) continue // the process may have been suspended meanwhile
      if (shared === undefined) return this.#resultOf(request, url, minted ? 'minted' : 'reused')
      if (joinedAt <= validFor && url.urlId !== request.replaces) return this.#resultOf(request, url, 'reused')
    }
  }

  /**
   * Makes the fleet drop cached URLs, and this instance in any case.
   * @param name of an app; '*': all of the user's
   * @returns how many were dropped
   * @throws TOOLJET_EMBED_REDIS_DOWN
   */
  async forget (user: string, name: string): Promise<number> {
    this.#drop(user, [name])
    const forgotten = await this.#store.forget(user, name, randomId())
    await this.#forgets.publish(user, forgotten)
    this.#loads.forget(user) // what began in between may have begun before Redis knew
    return forgotten.dropped
  }

  async #lookUp (user: string, app: App): Promise<CachedUrl | undefined> {
    try {
      const own = this.#local.get(user, app)
      if (own?.isUnsaved === true && !this.#breaker.isOpen && await this.#saveLocal(user, app, own)) return own
      const found = await this.#store.lookUp(user, app, own?.isUnsaved === true ? undefined : own)
      const isUnchanged = found !== undefined && found === own && this.#forgets.coveredUntil(user, own) === undefined
      return isUnchanged ? found : await this.#reconcile(user, app, found)
    } catch (error) {
      this.#rethrowUnlessServing(error)
      return this.#fromMemory(user, app)
    }
  }

  /** Stores what was minted while Redis was unavailable. @returns whether it may be used */
  async #saveLocal (user: string, app: App, own: MemoryEntry): Promise<boolean> {
    const isStored = await this.#store.store(user, app, own) === 'stored'
    return await this.#reconcile(user, app, isStored ? own : undefined) !== undefined
  }

  /**
   * Brings this instance's memory in line with what Redis returned, unless Redis came back with older data.
   * @returns the URL to use; nothing for one that was forgotten, even if Redis has it again
   */
  async #reconcile (user: string, app: App, url: CachedUrl | undefined): Promise<CachedUrl | undefined> {
    const own = this.#local.get(user, app)
    if (own !== undefined && url !== undefined && isYounger(own, url) && this.#forgets.coveredUntil(user, own) === undefined) {
      return await this.#saveLocal(user, app, own) ? own : undefined
    }
    const forgottenUntil = url && this.#forgets.coveredUntil(user, url)
    if (url !== undefined && forgottenUntil === undefined) {
      if (own !== url || own.isUnsaved) this.#local.set(user, app, url, { isUnsaved: false })
      return url
    }
    this.#local.drop(user, app)
    if (forgottenUntil !== undefined) await this.#forgets.restore(user, url!.names, forgottenUntil)
    return undefined
  }

  /** For an outage. */
  #fromMemory (user: string, app: App): MemoryEntry | undefined {
    const known = this.#local.get(user, app)
    return known !== undefined && this.#forgets.mayServe(known) ? known : undefined
  }

  /** Drops what this instance has in memory, and what it is loading. @param isForgotten whether a URL of these names is concerned; default: all are */
  #drop (user: string, names: readonly string[], isForgotten: (url: MemoryEntry) => boolean = () => true): void {
    this.#loads.forget(user, names)
    this.#local.forget(user, names, isForgotten)
  }

  /** Keeps a URL that cannot be stored now. @returns whether other requests may use it */
  #keepUnsaved (load: RunningLoad, url: CachedUrl): boolean {
    if (isForgotten(load, url.names)) return false
    this.#local.set(load.user, load.app, url, { isUnsaved: true })
    return true
  }

  async #load (request: RunningLoad, mint: Mint): Promise<LoadResult> {
    const { user, app, replaces } = request
    if (replaces !== undefined && this.#local.get(user, app)?.urlId === replaces) this.#local.drop(user, app)
    try {
      return await this.#loadViaRedis(request, mint)
    } catch (error) {
      this.#rethrowUnlessServing(error)
      return this.#loadLocally(request, mint)
    }
  }

  async #loadViaRedis (request: RunningLoad, mint: Mint): Promise<LoadResult> {
    const { user, app, lockTtlMs } = request
    const giveUpAt = this.#timers.now() + 2 * lockTtlMs
    let unreadableId: string | undefined
    let observedOwner: string | undefined
    let pauseMs = FIRST_PAUSE_MS
    let heldMs = 0
    for (;;) {
      const owner = randomId()
      const claim = await this.#claim(request, { owner, unreadableId, observedOwner })
      switch (claim.kind) {
        case 'url': {
          const url = await this.#reconcile(user, app, claim.url)
          if (url !== undefined) return { url, minted: false, validFor: claim.sentAt }
          break
        }
        case 'unreadable':
          unreadableId = claim.urlId
          break
        case 'failed':
          return this.#serveStaleOr(request, claim, claim.error)
        case 'wait':
          if (request.isInNoHurry === true) throw new Held(LAST_PAUSE_MS)
          if (this.#timers.now() > giveUpAt) return this.#serveStaleOr(request, claim, embedError('TOOLJET_EMBED_TIMEOUT'))
          observedOwner = claim.owner
          await this.#timers.sleep(pauseMs * (0.5 + this.#timers.random()))
          pauseMs = Math.min(pauseMs * 1.5, LAST_PAUSE_MS)
          break
        case 'acquired':
          try {
            return await this.#mintAsOwner(request, owner, claim, (call) => mint({ ...call, heldMs }))
          } catch (error) {
            if (!(error instanceof LockExpired || error instanceof Held)) throw error
            this.#store.release(user, app, owner, claim.start.spelling)
            if (error instanceof Held) {
              if (request.isInNoHurry === true) throw error
              heldMs += error.ms
              await this.#timers.sleep(error.ms)
            } else if (this.#timers.now() > giveUpAt) throw embedError('TOOLJET_EMBED_TIMEOUT', { cause: error })
          }
      }
    }
  }

  async #claim (request: UrlRequest, { owner, unreadableId, observedOwner }: { owner: string, unreadableId: string | undefined, observedOwner: string | undefined }): Promise<Claim> {
    const { user, app, lockTtlMs, replaces, isInNoHurry = false } = request
    try {
      return await this.#store.claim(user, app, { owner, lockTtlMs, invalidatedId: replaces, unreadableId, observedOwner, isInNoHurry })
    } catch (error) {
      this.#store.release(user, app, owner) // the lock may have been acquired although no reply came
      throw error
    }
  }

  async #mintAsOwner (request: RunningLoad, owner: string, claim: Claim & { kind: 'acquired' }, mint: Mint): Promise<LoadResult> {
    const { user, app } = request
    let url: CachedUrl
    try {
      url = await this.#mintFrom(claim.start, request, mint)
    } catch (error) {
      if (error instanceof LockExpired || error instanceof Held) throw error
      await this.#recordFailure(user, app, owner, claim.start, error)
      return this.#serveStaleOr(request, claim, error)
    }
    const sentAt = this.#timers.now()
    this.#loads.close(request) // later requests ask Redis
    try {
      const isStored = await this.#store.store(user, app, url, { owner, spelling: claim.start.spelling }) === 'stored'
      const isKept = isStored && await this.#reconcile(user, app, url) !== undefined // Redis may have lost a forget
      return { url, minted: true, validFor: isKept ? sentAt : -Infinity }
    } catch (error) {
      this.#rethrowUnlessServing(error)
      return { url, minted: true, validFor: this.#keepUnsaved(request, url) ? sentAt : -Infinity }
    }
  }

  /** Stores the failure for the requests that wait. A denial drops cached URLs in the whole fleet. */
  async #recordFailure (user: string, app: App, owner: string, start: MintStart, error: unknown): Promise<void> {
    const denied = isDenial(error)
    if (denied) this.#drop(user, [app.key])
    try {
      const forgotten = await this.#store.fail(user, app, owner, start, error)
      if (forgotten !== undefined) await this.#forgets.publish(user, forgotten)
    } catch (failure) {
      if (!isRedisOutage(failure)) throw failure
      if (denied) this.#forgets.publishLater(user, [app.key])
    }
  }

  /** Without Redis: from this instance's memory, or by a mint of its own. */
  async #loadLocally (request: RunningLoad, mint: Mint): Promise<LoadResult> {
    const { user, app } = request
    for (let heldMs = 0; ;) {
      const known = this.#fromMemory(user, app)
      const now = this.#timers.now()
      if (known !== undefined && this.#isUsable(request, known)) return { url: known, minted: false, validFor: now }
      try {
        const url = await this.#mintFrom({ at: undefined, monotonic: now }, request, (call) => mint({ ...call, heldMs }))
        return { url, minted: true, validFor: this.#keepUnsaved(request, url) ? await this.#validityOf(user, app) : -Infinity }
      } catch (error) {
        if (!(error instanceof Held) || request.isInNoHurry === true) return this.#failLocally(request, { lastUrl: known, sentAt: now }, error)
        heldMs += error.ms // Redis is back, and has a queue
        await this.#timers.sleep(error.ms)
      }
    }
  }

  #failLocally (request: RunningLoad, known: Pick<Claim & { kind: 'wait' }, 'lastUrl' | 'sentAt'>, error: unknown): LoadResult {
    const { user, app } = request
    if (isDenial(error)) {
      this.#drop(user, [app.key])
      this.#forgets.publishLater(user, [app.key])
      if (!this.#breaker.isOpen) this.#forgets.writePendingSoon()
    }
    return this.#serveStaleOr(request, known, error)
  }

  /** `validFor` of a URL that was just minted without Redis. When Redis is available again, it decides: it knows what was forgotten meanwhile. */
  async #validityOf (user: string, app: App): Promise<number> {
    const now = this.#timers.now()
    const own = this.#local.get(user, app)
    if (this.#breaker.isOpen) return now
    // if it cannot be stored, the next lookup tries again
    return own?.isUnsaved === true && await this.#saveLocal(user, app, own).catch(() => false) ? now : -Infinity
  }

  /** The lifetime begins right before the mint call: from the start of the lock it would seem older than a URL that was minted without a lock meanwhile. */
  async #mintFrom (start: MintStart, { user, app, lockTtlMs, mintTimeoutMs }: UrlRequest, mint: Mint): Promise<CachedUrl> {
    const minted = await mint({
      checkLock: () => {
        const calledAt = start.calledAt = this.#timers.now()
        if (start.at !== undefined && calledAt > start.monotonic + lockTtlMs - mintTimeoutMs) throw new LockExpired()
      },
      hasOther: start.hasOther === true,
      heldMs: 0,
      spelling: start.spelling ?? this.#local.spellingOf(user),
      keepSpelling: (spelling) => {
        start.spelling = spelling
        this.#local.keepSpelling(user, spelling)
      },
    })
    if ('heldForMs' in minted) throw new Held(minted.heldForMs)
    const { redirectUrl, names } = minted
    const { calledAt = start.monotonic } = start
    const url = { redirectUrl, urlId: randomId(), names: [...new Set([app.key, ...names])], bornAt: calledAt, lifeMs: app.patExpiry * 1000, startsAt: start.at && this.#startOfCall(start.at, calledAt) }
    if (secondsLeft(app, url, this.#timers.now()) <= 0) throw embedError('TOOLJET_EMBED_TIMEOUT', { detail: 'the URL had expired when it arrived' })
    return url
  }

  /** Start of the mint call by Redis's clock, which may have jumped since the lock was acquired. */
  #startOfCall (lockedAt: number, calledAt: number): number {
    return Math.min(Math.max(lockedAt, this.#clock.earliest(calledAt)), this.#clock.latest(calledAt))
  }

  /** Returns a URL that ends soon in place of an error, unless ToolJet denied it to this user. */
  #serveStaleOr ({ app, user }: UrlRequest, { lastUrl, sentAt }: { lastUrl: CachedUrl | undefined, sentAt: number }, error: unknown): LoadResult {
    const isAlive = lastUrl !== undefined && secondsLeft(app, lastUrl, this.#timers.now()) > 0
    if (!isAlive || isDenial(error) || this.#forgets.coveredUntil(user, lastUrl) !== undefined) throw error
    return { url: lastUrl, minted: false, validFor: sentAt }
  }

  #isUsable ({ app, replaces }: UrlRequest, url: CachedUrl): boolean {
    return url.urlId !== replaces && secondsLeft(app, url, this.#timers.now()) >= app.minRemaining
  }

  #resultOf ({ app }: UrlRequest, url: CachedUrl, source: UrlResult['source']): UrlResult {
    const now = this.#timers.now()
    const { redirectUrl, urlId } = url
    return { redirectUrl, urlId, source, expiresAt: expiresAt(app, url, this.#clock, now), secondsLeft: secondsLeft(app, url, now) }
  }

  /** By Redis's clock; for a URL that was never in Redis, the earliest possible. */
  #startOf ({ startsAt, bornAt }: CachedUrl): number {
    return startsAt ?? (this.#clock.isKnown ? this.#clock.earliest(bornAt) : 0)
  }

  #rethrowUnlessServing (error: unknown): void {
    if (!this.#serveWithoutRedis || !isRedisOutage(error)) throw error
  }
}
