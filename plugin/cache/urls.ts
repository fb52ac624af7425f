import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { App } from '../access/apps.js'
import { embedError, isRedisDown } from '../errors.js'
import type { FleetClock } from '../redis/clock.js'
import type { Keys, PairKeys } from './keys.js'
import { UrlMemory } from './memory.js'
import { isDenial, secondsLeft, type HeldUrl, type MintStart, type UrlStore } from './store.js'

/** Whose URL, for which app, and the id of one that turned out dead. */
export interface UrlAsk {
  /** What stands for the user in key names. */
  user: string
  app: App
  replaces?: string | undefined
  /** What `lookAhead` gave. */
  ahead?: Promise<HeldUrl | undefined> | undefined
  /** The lock's bound in ms. */
  lockMs: number
}

export interface GivenUrl extends HeldUrl {
  source: 'minted' | 'reused'
}

/** Mints a URL at ToolJet; `appKeys`: all names by which its app is known. */
export type Mint = () => Promise<{ redirectUrl: string, appKeys: string[] }>

/** What one flight brought: all who wait for it share the URL, one of them may call it minted. */
interface Landed {
  url: HeldUrl
  minted: boolean
}

const FIRST_LOOK_AGAIN_MS = 15
const LAST_LOOK_AGAIN_MS = 60

/** Reuses URLs until their end, and mints a new one once: calls of a process share a flight, processes a lock in Redis. */
export class Urls {
  readonly #store: UrlStore
  readonly #keys: Keys
  readonly #clock: FleetClock
  readonly #serveWithoutRedis: boolean
  readonly #memory = new UrlMemory()
  readonly #flights = new Map<string, Promise<Landed>>()

  constructor (parts: { store: UrlStore, keys: Keys, clock: FleetClock }, options: { serveWithoutRedis: boolean }) {
    this.#store = parts.store
    this.#keys = parts.keys
    this.#clock = parts.clock
    this.#serveWithoutRedis = options.serveWithoutRedis
  }

  /** Asks Redis for the cached URL before it is needed, for `get`; may be let go. */
  lookAhead (user: string, app: App): Promise<HeldUrl | undefined> {
    const looked = this.#look(this.#keys.pair(user, app.key))
    looked.catch(() => { /* `get` throws it */ })
    return looked
  }

  /** @throws what `mint` throws, when there is no URL alive to fall back on */
  async get (ask: UrlAsk, mint: Mint): Promise<GivenUrl> {
    const pair = this.#keys.pair(ask.user, ask.app.key)
    const cached = await (ask.ahead ?? this.#look(pair))
    if (cached !== undefined && servesFor(ask, cached)) return { ...cached, source: 'reused' }

    for (;;) {
      const joined = this.#flights.get(pair.name)
      const { url, minted } = await (joined ?? this.#takeOff(pair, ask, mint))
      if (url.urlId === ask.replaces || secondsLeft(url) <= 0) continue // the process may have stood still meanwhile
      return { ...url, source: minted && joined === undefined ? 'minted' : 'reused' }
    }
  }

  /** @returns how many URLs of this user the fleet dropped */
  async forget (user: string, appKey?: string): Promise<number> {
    this.#memory.dropAll(this.#keys.pair(user, '').name) // all names of one app, and it is only asked in an outage
    return this.#store.forget(user, appKey)
  }

  async #look (pair: PairKeys): Promise<HeldUrl | undefined> {
    try {
      const own = this.#memory.get(pair.name)
      if (own?.unsavedAs !== undefined && await this.#store.store(pair, own.unsavedAs, '', own)) return this.#remembered(pair, own)
      const seen = await this.#store.look(pair, own)
      return seen === own ? seen : this.#remembered(pair, seen)
    } catch (error) {
      this.#rethrowUnlessServing(error)
      return this.#memory.get(pair.name)
    }
  }

  #takeOff (pair: PairKeys, ask: UrlAsk, mint: Mint): Promise<Landed> {
    const flight = this.#fly(pair, ask, mint).finally(() => this.#flights.delete(pair.name))
    this.#flights.set(pair.name, flight)
    return flight
  }

  async #fly (pair: PairKeys, ask: UrlAsk, mint: Mint): Promise<Landed> {
    try {
      return await this.#throughRedis(pair, ask, mint)
    } catch (error) {
      this.#rethrowUnlessServing(error)
      return this.#throughMemory(pair, ask, mint)
    }
  }

  async #throughRedis (pair: PairKeys, ask: UrlAsk, mint: Mint): Promise<Landed> {
    const owner = newId()
    const giveUpAt = performance.now() + 2 * ask.lockMs
    let unreadable = ''
    let awaited = ''
    for (let pauseMs = FIRST_LOOK_AGAIN_MS; ; pauseMs = Math.min(pauseMs * 1.5, LAST_LOOK_AGAIN_MS)) {
      const claim = await this.#store.claim(pair, {
        owner, boundMs: ask.lockMs, minRemaining: ask.app.minRemaining, dead: ask.replaces ?? '', unreadable, awaited,
      })
      switch (claim.kind) {
        case 'url':
          return { url: this.#remembered(pair, claim.url), minted: false }
        case 'unreadable':
          unreadable = claim.urlId
          break
        case 'failed':
          return fallBack(claim.lastUrl, claim.error)
        case 'wait':
          if (performance.now() > giveUpAt) return fallBack(claim.lastUrl, embedError('TOOLJET_EMBED_TIMEOUT'))
          awaited = claim.holder
          await sleep(pauseMs * (0.5 + Math.random()))
          break
        case 'mine':
          return this.#asHolder(pair, ask, owner, claim, mint)
      }
    }
  }

  async #asHolder (pair: PairKeys, ask: UrlAsk, owner: string, { start, lastUrl }: { start: MintStart, lastUrl: HeldUrl | undefined }, mint: Mint): Promise<Landed> {
    let fresh: HeldUrl
    let appKeys: string[]
    try {
      ({ url: fresh, appKeys } = await mintFrom(start, ask, mint))
    } catch (error) {
      await this.#store.fail(pair, owner, error).catch(ignoreRedisDown)
      return fallBack(lastUrl, error)
    }
    try {
      const stored = await this.#store.store(pair, appKeys, owner, fresh)
      const newer = stored ? undefined : await this.#store.look(pair)
      if (newer !== undefined && servesFor(ask, newer)) return { url: this.#remembered(pair, newer), minted: false }
      if (stored) this.#remembered(pair, fresh)
    } catch (error) {
      this.#rethrowUnlessServing(error)
      this.#memory.remember(pair.name, fresh, appKeys)
    }
    return { url: fresh, minted: true }
  }

  async #throughMemory (pair: PairKeys, ask: UrlAsk, mint: Mint): Promise<Landed> {
    if (this.#memory.get(pair.name)?.urlId === ask.replaces) this.#memory.drop(pair.name)
    const known = this.#memory.get(pair.name)
    if (known !== undefined && servesFor(ask, known)) return { url: known, minted: false }
    try {
      const { url, appKeys } = await mintFrom({ at: this.#clock.now(), monotonic: performance.now() }, ask, mint)
      this.#memory.remember(pair.name, url, appKeys)
      return { url, minted: true }
    } catch (error) {
      return fallBack(known, error)
    }
  }

  /** Keeps this instance's memory as Redis is. */
  #remembered<T extends HeldUrl | undefined> (pair: PairKeys, url: T): T {
    if (url === undefined) this.#memory.drop(pair.name)
    else this.#memory.remember(pair.name, url)
    return url
  }

  #rethrowUnlessServing (error: unknown): void {
    if (!this.#serveWithoutRedis || !isRedisDown(error)) throw error
  }
}

function servesFor (ask: UrlAsk, url: HeldUrl): boolean {
  return url.urlId !== ask.replaces && secondsLeft(url) >= ask.app.minRemaining
}

/** Its life counts from before the mint request was sent. */
async function mintFrom (start: MintStart, ask: UrlAsk, mint: Mint): Promise<{ url: HeldUrl, appKeys: string[] }> {
  const { redirectUrl, appKeys } = await mint()
  const lifeMs = ask.app.patExpiry * 1000
  const url = { redirectUrl, urlId: newId(), expiresAt: start.at + lifeMs, deadline: start.monotonic + lifeMs }
  if (secondsLeft(url) <= 0) throw embedError('TOOLJET_EMBED_TIMEOUT', { detail: 'the URL had expired when it came' })
  return { url, appKeys: [...new Set([ask.app.key, ...appKeys])] }
}

/** A URL in the last seconds of its life beats an error, unless ToolJet said that this user may not have one. */
function fallBack (lastUrl: HeldUrl | undefined, error: unknown): Landed {
  if (lastUrl === undefined || secondsLeft(lastUrl) <= 0 || isDenial(error)) throw error
  return { url: lastUrl, minted: false }
}

function ignoreRedisDown (error: unknown): void {
  if (!isRedisDown(error)) throw error
}

/** Says nothing of what it names. */
function newId (): string {
  return randomBytes(12).toString('base64url')
}
