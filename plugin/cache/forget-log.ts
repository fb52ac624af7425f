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

/** Interval of reading the log, also by idle instances. */
const READ_EVERY_MS = 2000
/**
 * An instance that got an answer of Redis this long after a forget knows of that forget. If its last read of the log was
 * longer than this before its last answer, it serves nothing from its memory.
 */
const MAX_BEHIND_MS = 5000
const PAGE = 500
const MAX_USERS = 100_000
const MAX_FORGETS_EACH = 16
const MAX_PENDING = 10_000

type Forget = Pick<Forgotten, 'moment' | 'names'>

/** A forget that is still to be written to Redis, which was unavailable or has lost it. */
interface PendingForget {
  user: string
  names: readonly string[]
  /** By Redis's clock, ms; before Redis's first answer, on the monotonic clock. */
  moment: number | { monotonic: number }
}

/**
 * The forgets of the fleet within the lifetime of a URL: read every two seconds, and before Redis counts as available
 * again. Forgets that this instance knows and Redis has lost are written again.
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
  readonly #pending: PendingForget[] = []
  /** Written by this instance, and not read back yet; `writtenAt` on the monotonic clock. */
  #unread: { user: string, forget: Forget, writtenAt: number }[] = []
  #last = '-'
  /** When the last complete read was sent, on the monotonic clock. */
  #readAt = -Infinity
  #reading: Promise<void> | undefined
  #writing: Promise<void> | undefined
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

  /** Starts to read regularly. */
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
   * Whether a URL in this instance's memory may be served without asking Redis: any forget that it has to know of was in
   * the log when it was last read, or is older than the URL.
   */
  mayServe ({ bornAt }: { bornAt: number }): boolean {
    const mustKnowUntil = this.#breaker.lastAnswerAt - MAX_BEHIND_MS
    return mustKnowUntil === -Infinity || mustKnowUntil < this.#readAt || mustKnowUntil < bornAt
  }

  /** The moment, by Redis's clock, up to which URLs of this app are forgotten; `undefined` when the URL's mint began later. */
  coveredUntil (user: string, url: { names: readonly string[], startsAt: number | undefined }): number | undefined {
    const { startsAt } = url
    if (startsAt === undefined || this.#known.size === 0) return undefined
    const moments = (this.#known.get(user) ?? []).filter(({ moment, names }) => startsAt <= moment && names.some((name) => concerns(url.names, name))).map(({ moment }) => moment)
    return moments.length === 0 ? undefined : Math.max(...moments)
  }

  /** Writes a forget to the log. @throws TOOLJET_EMBED_REDIS_DOWN, and writes it later */
  async publish (user: string, { moment, names }: Forget): Promise<void> {
    this.#learn(user, { moment, names })
    try {
      await this.#append(user, { moment, names })
    } catch (error) {
      this.#addPending({ user, names, moment })
      throw error
    }
  }

  /** For a forget during an outage: it is written when Redis is available again. */
  publishLater (user: string, names: readonly string[]): void {
    const pending: PendingForget = { user, names, moment: { monotonic: this.#timers.now() } }
    this.#addPending(pending)
    this.#setMoment(pending)
  }

  /**
   * Reads what is new.
   * @param send runs a script; the default refuses at once while Redis is unavailable
   * @throws TOOLJET_EMBED_REDIS_DOWN
   */
  read (send: Pick<ScriptClient, 'run'>['run'] = (...call) => this.#scripts.run(...call)): Promise<void> {
    this.#reading ??= this.#read(send).finally(() => { this.#reading = undefined })
    return this.#reading
  }

  /** Writes the pending forgets now that Redis is available again. */
  writePendingSoon (): void {
    this.#timers.after(0, () => { this.#writePending().catch(() => { /* the next reading tries again */ }) })
  }

  async #tick (): Promise<void> {
    if (this.#breaker.isOpen) return
    await this.read()
    await this.#writePending()
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
      if (isLost) this.#addMissing(seen, reply)
      else this.#addUnread(seen, reply)
      this.#readAt = reply.sentAt
      for (const pending of this.#pending) this.#setMoment(pending)
      return
    }
  }

  /** After Redis came back with older data or none: adds the forgets that it lacks. */
  #addMissing (seen: ReadonlySet<string>, { at }: ScriptReply): void {
    for (const [user, forgets] of this.#known.entries()) {
      for (const forget of forgets) {
        if (forget.moment > at - this.#longestLifeMs && !seen.has(forgetKey(user, forget))) this.#addPending({ user, ...forget })
      }
    }
  }

  /** A forget that this instance wrote before this read began, and that the read did not return, is lost. */
  #addUnread (seen: ReadonlySet<string>, { sentAt }: ScriptReply): void {
    const unread = this.#unread.filter(({ user, forget }) => !seen.has(forgetKey(user, forget)))
    this.#unread = unread.filter(({ writtenAt }) => writtenAt > sentAt)
    for (const { user, forget, writtenAt } of unread) if (writtenAt <= sentAt) this.#addPending({ user, ...forget })
  }

  #addPending (pending: PendingForget): void {
    if (this.#pending.length < MAX_PENDING) this.#pending.push(pending)
  }

  /** Gives a pending forget its moment by Redis's clock as soon as that is known; from then on it counts in this instance. */
  #setMoment (pending: PendingForget): void {
    if (typeof pending.moment === 'number' || !this.#clock.isKnown) return
    pending.moment = this.#clock.latest(pending.moment.monotonic)
    this.#learn(pending.user, { names: [...pending.names], moment: pending.moment })
  }

  #writePending (): Promise<void> {
    this.#writing ??= this.#writeAllPending().finally(() => { this.#writing = undefined })
    return this.#writing
  }

  async #writeAllPending (): Promise<void> {
    for (let next = this.#pending[0]; next !== undefined; next = this.#pending[0]) {
      const { user, names, moment } = next
      try {
        await this.restore(user, names, typeof moment === 'number' ? moment : this.#clock.latest(moment.monotonic))
      } catch (error) {
        if (isRedisOutage(error)) throw error
      }
      this.#pending.shift()
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
    if (kept.length > MAX_FORGETS_EACH) { // the two oldest are merged to one of all apps
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
