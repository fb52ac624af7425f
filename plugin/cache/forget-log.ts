import { LRUCache } from 'lru-cache'
import { randomId } from '../crypto/random-id.js'
import { isRedisOutage } from '../errors.js'
import type { RedisCircuitBreaker } from '../redis/circuit-breaker.js'
import type { RedisClock } from '../redis/clock.js'
import { Script } from '../redis/script.js'
import type { ScriptClient, ScriptReply } from '../redis/script-client.js'
import type { Timers } from '../timers.js'
import { concerns } from './cached-url.js'
import type { Forgotten, UrlStore } from './store.js'

const APPEND = Script.of('cache/scripts/forgets-append.lua')
const READ = Script.of('cache/scripts/forgets-read.lua')

/** Idle instances read it, too. */
const READ_EVERY_MS = 2000
/**
 * An instance that had an answer of Redis this long after a forget knows of it. One that has read the log less recently
 * before its last answer gives nothing out of its memory.
 */
const MAX_BEHIND_MS = 5000
const PAGE = 500
const MAX_USERS = 100_000
const MAX_FORGETS_EACH = 16
const MAX_OWED = 10_000

type Forget = Pick<Forgotten, 'moment' | 'names'>

/** A forget that Redis has to be told of: it was unavailable, or has lost it. */
interface Owed {
  user: string
  names: readonly string[]
  /** By Redis's clock, ms; until it was heard, on the monotonic clock. */
  moment: number | { monotonic: number }
}

/**
 * What the fleet has forgotten within the life of a URL: read every two seconds, and before Redis counts as available
 * again. What this instance knows and Redis has lost, it writes again.
 */
export class ForgetLog {
  readonly #key: string
  readonly #longestLifeMs: number
  readonly #breaker: RedisCircuitBreaker
  readonly #scripts: ScriptClient
  readonly #store: UrlStore
  readonly #clock: RedisClock
  readonly #timers: Timers
  readonly #onForget: (user: string, forget: Forget) => void
  readonly #known: LRUCache<string, Forget[]>
  readonly #owed: Owed[] = []
  /** Written by this instance, and not read yet: when Redis said so, on the monotonic clock. */
  #unread: { user: string, forget: Forget, writtenAt: number }[] = []
  #last = '-'
  /** When the last complete read was sent, on the monotonic clock. */
  #readAt = -Infinity
  #reading: Promise<void> | undefined
  #paying: Promise<void> | undefined
  #cancel = (): void => {}
  #closed = false

  constructor (
    deps: { breaker: RedisCircuitBreaker, scripts: ScriptClient, store: UrlStore, clock: RedisClock, timers: Timers },
    { key, longestLifeMs, maxUsers = MAX_USERS, onForget }: { key: string, longestLifeMs: number, maxUsers?: number | undefined, onForget: (user: string, forget: Forget) => void }
  ) {
    this.#breaker = deps.breaker
    this.#scripts = deps.scripts
    this.#store = deps.store
    this.#clock = deps.clock
    this.#timers = deps.timers
    this.#key = key
    this.#longestLifeMs = longestLifeMs
    this.#onForget = onForget
    this.#known = new LRUCache({ max: maxUsers })
  }

  /** Reads from now on, again and again. */
  open (): void {
    this.#cancel = this.#timers.after(READ_EVERY_MS, () => {
      this.#tick().catch(() => { /* the circuit breaker has logged it */ }).finally(() => { if (!this.#closed) this.open() })
    })
  }

  close (): void {
    this.#closed = true
    this.#cancel()
  }

  /**
   * Whether a URL that this instance remembers may be handed out without asking Redis: a forget that it has to know of
   * would be in the log as it was read, or older than the URL.
   */
  mayServe ({ bornAt }: { bornAt: number }): boolean {
    const mustKnowUntil = this.#breaker.lastAnswerAt - MAX_BEHIND_MS
    return mustKnowUntil === -Infinity || mustKnowUntil < this.#readAt || mustKnowUntil < bornAt
  }

  /** Until which moment, by Redis's clock, this URL's app is forgotten; `undefined`: its mint began later. */
  coveredUntil (user: string, url: { names: readonly string[], startsAt: number | undefined }): number | undefined {
    const { startsAt } = url
    if (startsAt === undefined || this.#known.size === 0) return undefined
    const moments = (this.#known.get(user) ?? []).filter(({ moment, names }) => startsAt <= moment && names.some((name) => concerns(url.names, name))).map(({ moment }) => moment)
    return moments.length === 0 ? undefined : Math.max(...moments)
  }

  /** Tells the fleet. @throws TOOLJET_EMBED_REDIS_DOWN, and it is told later */
  async publish (user: string, { moment, names }: Forget): Promise<void> {
    this.#learn(user, { moment, names })
    try {
      await this.#append(user, { moment, names })
    } catch (error) {
      this.#owe({ user, names, moment })
      throw error
    }
  }

  /** Of an outage: Redis is told when it is available again. */
  owe (user: string, names: readonly string[]): void {
    const owed: Owed = { user, names, moment: { monotonic: this.#timers.now() } }
    this.#owe(owed)
    this.#date(owed)
  }

  /**
   * Reads what is new.
   * @param send how; by default refused at once while Redis is unavailable
   * @throws TOOLJET_EMBED_REDIS_DOWN
   */
  read (send: Pick<ScriptClient, 'run'>['run'] = (...call) => this.#scripts.run(...call)): Promise<void> {
    this.#reading ??= this.#read(send).finally(() => { this.#reading = undefined })
    return this.#reading
  }

  /** Tells Redis what it has lost, as soon as it is available. */
  paySoon (): void {
    this.#timers.after(0, () => { this.#pay().catch(() => { /* the next reading tries again */ }) })
  }

  async #tick (): Promise<void> {
    if (this.#breaker.isOpen) return
    await this.read()
    await this.#pay()
  }

  async #read (send: Pick<ScriptClient, 'run'>['run']): Promise<void> {
    const seen = new Set<string>()
    let isLost = false
    for (;;) {
      const reply = await send(READ, [this.#key], [this.#last, PAGE])
      const [kind, ...flat] = reply.values.map(String)
      if (kind === 'lost') {
        isLost = true
        this.#last = '-' // should the next page fail
      }
      for (const { id, user, forget } of entriesOf(flat)) {
        this.#last = id
        this.#learn(user, forget)
        if (isLost || this.#unread.length > 0) seen.add(forgetKey(user, forget))
      }
      if (flat.length >= 4 * PAGE) continue
      if (isLost) this.#oweAllBut(seen, reply)
      else this.#oweUnreadBut(seen, reply)
      this.#readAt = reply.sentAt
      for (const owed of this.#owed) this.#date(owed)
      return
    }
  }

  /** Redis came back with older data, or with none. */
  #oweAllBut (seen: ReadonlySet<string>, { at }: ScriptReply): void {
    for (const [user, forgets] of this.#known.entries()) {
      for (const forget of forgets) {
        if (forget.moment > at - this.#longestLifeMs && !seen.has(forgetKey(user, forget))) this.#owe({ user, ...forget })
      }
    }
  }

  /** What this instance wrote before this reading is lost, if it has not been read. */
  #oweUnreadBut (seen: ReadonlySet<string>, { sentAt }: ScriptReply): void {
    const unread = this.#unread.filter(({ user, forget }) => !seen.has(forgetKey(user, forget)))
    this.#unread = unread.filter(({ writtenAt }) => writtenAt > sentAt)
    for (const { user, forget, writtenAt } of unread) if (writtenAt <= sentAt) this.#owe({ user, ...forget })
  }

  #owe (owed: Owed): void {
    if (this.#owed.length < MAX_OWED) this.#owed.push(owed)
  }

  /** What Redis is not told yet is forgotten here all the same. */
  #date (owed: Owed): void {
    if (typeof owed.moment === 'number' || !this.#clock.isKnown) return
    owed.moment = this.#clock.latest(owed.moment.monotonic)
    this.#learn(owed.user, { names: [...owed.names], moment: owed.moment })
  }

  #pay (): Promise<void> {
    this.#paying ??= this.#payAll().finally(() => { this.#paying = undefined })
    return this.#paying
  }

  async #payAll (): Promise<void> {
    for (let owed = this.#owed[0]; owed !== undefined; owed = this.#owed[0]) {
      const { user, names, moment } = owed
      try {
        await this.restore(user, names, typeof moment === 'number' ? moment : this.#clock.latest(moment.monotonic))
      } catch (error) {
        if (isRedisOutage(error)) throw error
      }
      this.#owed.shift()
    }
  }

  /** Writes a forget again, into the user's hash and into the log. @throws TOOLJET_EMBED_REDIS_DOWN */
  async restore (user: string, names: readonly string[], moment: number): Promise<void> {
    for (const name of names) await this.#store.forget(user, name, randomId(), moment)
    this.#learn(user, { moment, names: [...names] })
    await this.#append(user, { moment, names: [...names] })
  }

  async #append (user: string, { moment, names }: Forget): Promise<void> {
    await this.#scripts.run(APPEND, [this.#key], [this.#longestLifeMs, user, moment, names.join(' ')])
    this.#unread.push({ user, forget: { moment, names }, writtenAt: this.#timers.now() })
  }

  #learn (user: string, forget: Forget): void {
    const known = this.#known.get(user) ?? []
    if (known.some((one) => forgetKey(user, one) === forgetKey(user, forget))) return
    const kept = [...known, forget]
    if (kept.length > MAX_FORGETS_EACH) { // the oldest two become one, of all apps
      const [first, second] = kept.splice(0, 2) as [Forget, Forget]
      kept.unshift({ names: ['*'], moment: Math.max(first.moment, second.moment) })
    }
    this.#known.set(user, kept)
    this.#onForget(user, forget)
  }
}

function * entriesOf (flat: readonly string[]): Generator<{ id: string, user: string, forget: Forget }> {
  for (let i = 0; i < flat.length; i += 4) {
    const [id, user, moment, names] = flat.slice(i, i + 4) as [string, string, string, string]
    yield { id, user, forget: { moment: Number(moment), names: names.split(' ') } }
  }
}

function forgetKey (user: string, { moment, names }: Forget): string {
  return `${user} ${moment} ${names.join(' ')}`
}
