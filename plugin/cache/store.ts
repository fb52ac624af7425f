import { namesIn, type App } from '../access/apps.js'
import type { Encryptor } from '../crypto/encryption.js'
import { embedError, errorCodes, isEmbedError, type EmbedError, type EmbedErrorCode, type QueuePosition } from '../errors.js'
import type { Log } from '../observability/log.js'
import type { RedisClock } from '../redis/clock.js'
import { Script } from '../redis/script.js'
import type { ScriptClient } from '../redis/script-client.js'
import type { UserBatch } from '../redis/user-batch.js'
import type { Spelling } from '../tooljet/spellings.js'
import type { CachedUrl } from './cached-url.js'
import { userKeys, type UserKeys } from '../redis/user-keys.js'

const userScript = (name: string): Script => Script.of('cache/scripts/user.lua', `cache/scripts/${name}.lua`)
const CLAIM = userScript('claim')
const STORE = userScript('store')
const FAIL = userScript('fail')
const RELEASE = userScript('release')
const FORGET = userScript('forget')

/** Outcome of asking for the lock; `lastUrl`: a URL that is valid, but for less long than wanted. */
export type Claim = { sentAt: number } & (
  | { kind: 'url', url: CachedUrl }
  | { kind: 'unreadable', urlId: string }
  | { kind: 'failed', error: EmbedError, lastUrl: CachedUrl | undefined }
  | { kind: 'wait', owner: string, lastUrl: CachedUrl | undefined }
  | { kind: 'acquired', start: MintStart & { at: number }, lastUrl: CachedUrl | undefined }
)

/** When a mint began: by Redis's clock, and on this process's monotonic clock, ms. */
export interface MintStart {
  /** By Redis's clock; `undefined` without Redis. */
  at: number | undefined
  monotonic: number
  /** When ToolJet was called, on the monotonic clock. */
  calledAt?: number
  /** The user has a URL for another app. */
  hasOther?: boolean
  /** How the user's e-mail is to be spelled for ToolJet. */
  spelling?: Spelling | undefined
}

export interface ClaimOptions {
  owner: string
  lockTtlMs: number
  /** Id of a URL that is reported dead. */
  invalidatedId: string | undefined
  /** Id of a URL that cannot be decrypted. */
  unreadableId: string | undefined
  /** Owner of the lock that this request has been waiting for. */
  observedOwner: string | undefined
  /** Waits also for mints by another name, which may be of the same app. */
  isInNoHurry?: boolean
}

/** Outcome of a forget. */
export interface Forgotten {
  /** By Redis's clock: mints that began until then are concerned. */
  moment: number
  names: string[]
  dropped: number
}

/** ToolJet's verdicts on a user and an app; any other failure may be transient. */
const DENIALS: ReadonlySet<EmbedErrorCode> = new Set([
  'TOOLJET_EMBED_USER_NOT_FOUND', 'TOOLJET_EMBED_ACCESS_DENIED', 'TOOLJET_EMBED_APP_NOT_FOUND',
])
const DENIAL_MS = 30_000
/** Longer than the pause between two tries of a request that waits. */
const FAILURE_MS = 5_000

/** Start and end before the ciphertext, 13 digits each. */
const TIME_DIGITS = 13

export function isDenial (error: unknown): boolean {
  return isEmbedError(error) && DENIALS.has(error.code)
}

/** The cached URLs in Redis. Every method throws TOOLJET_EMBED_REDIS_DOWN when Redis is unavailable, or refuses. */
export class UrlStore {
  readonly #scripts: ScriptClient
  readonly #batch: UserBatch
  readonly #clock: RedisClock
  readonly #encryptor: Encryptor
  readonly #log: Log
  readonly #keyPrefix: string
  readonly #longestLifeMs: number

  constructor (deps: { scripts: ScriptClient, batch: UserBatch, clock: RedisClock, encryptor: Encryptor, log: Log }, { keyPrefix, longestLifeMs }: { keyPrefix: string, longestLifeMs: number }) {
    this.#scripts = deps.scripts
    this.#batch = deps.batch
    this.#clock = deps.clock
    this.#encryptor = deps.encryptor
    this.#log = deps.log
    this.#keyPrefix = keyPrefix
    this.#longestLifeMs = longestLifeMs
  }

  /** @param known the URL as this process has it: it is not sent or decrypted again */
  lookUp (user: string, app: App, known?: CachedUrl): Promise<CachedUrl | undefined> {
    return this.#batch.lookUp(user, app.key, known?.urlId).then((found) => {
      if (found === undefined) return undefined
      if (found.url === undefined) return known && atTheEarliest(known, found)
      return this.#decrypt(this.#keysOf(user), app, found.url, found)
    })
  }

  async claim (user: string, app: App, options: ClaimOptions): Promise<Claim> {
    const keys = this.#keysOf(user)
    const { at, sentAt, values } = await this.#run(CLAIM, keys, app.key, [
      options.owner, options.lockTtlMs, Math.ceil(app.minRemaining * 1000), app.patExpiry * 1000,
      options.invalidatedId ?? '-', options.unreadableId ?? '-', options.observedOwner ?? '-', options.isInNoHurry === true ? 1 : 0,
    ])
    const [kind, detail, urlId] = values.slice(0, 3).map(String) as [string, string, string]
    const url = urlId === '' ? undefined : this.#decrypt(keys, app, { id: urlId, kept: values[3] as Buffer }, { at, sentAt })
    switch (kind) {
      case 'url':
        return url === undefined ? { kind: 'unreadable', urlId, sentAt } : { kind, url, sentAt }
      case 'failed':
        return { kind, error: readOutcome(detail), lastUrl: url, sentAt }
      case 'wait':
        return { kind, owner: detail, lastUrl: url, sentAt }
      default: {
        const lockedAt = Number(detail) // earlier than `at` when this call was sent again
        return { kind: 'acquired', start: { at: lockedAt, monotonic: sentAt - (at - lockedAt), hasOther: Number(values[4]) > 0, spelling: this.#readSpelling(keys, values[5] as Buffer) }, lastUrl: url, sentAt }
      }
    }
  }

  /**
   * @param owner of the lock; omitted for a URL that was minted while Redis was unavailable
   * @returns 'forgotten' when it was forgotten meanwhile, 'superseded' when another process has the lock by now
   */
  async store (user: string, app: App, url: CachedUrl, { owner, spelling }: { owner?: string, spelling?: Spelling | undefined } = {}): Promise<'stored' | 'forgotten' | 'superseded'> {
    const keys = this.#keysOf(user)
    const startsAt = url.startsAt ??= this.#clock.earliest(url.bornAt)
    const times = timesOf(startsAt, url.lifeMs)
    const { values: [outcome] } = await this.#releaseOnError(user, app, owner, () => this.#run(STORE, keys, app.key, [
      owner ?? '-', url.urlId, ...times, this.#encryptor.encrypt(boundTo(keys, url.urlId, times.join('')), plaintextOf(url)), url.names.join(' '), this.#writeSpelling(keys, spelling),
    ]))
    return String(outcome) as 'stored' | 'forgotten' | 'superseded'
  }

  /** Ends the owner's mint without a URL. @returns the forget that a denial by ToolJet is, too */
  async fail (user: string, app: App, owner: string, { monotonic, calledAt = monotonic, spelling }: MintStart, error: unknown): Promise<Forgotten | undefined> {
    const denial = isDenial(error)
    const keys = this.#keysOf(user)
    const { values } = await this.#releaseOnError(user, app, owner, () => this.#run(FAIL, keys, app.key, [
      owner, writeOutcome(error), denial ? DENIAL_MS : FAILURE_MS, denial ? 1 : 0, this.#clock.latest(calledAt), this.#writeSpelling(keys, spelling),
    ]))
    const [moment, names] = values.map(String)
    if (moment === '0') return undefined
    return { moment: Number(moment), names: names!.split(' '), dropped: 0 }
  }

  /** Releases a lock without waiting for Redis. */
  release (user: string, app: App, owner: string, spelling?: Spelling): void {
    const keys = this.#keysOf(user)
    this.#scripts.fireAndForget(RELEASE, [keys.urls], [this.#longestLifeMs, app.key, owner, this.#writeSpelling(keys, spelling)])
  }

  /**
   * @param name of an app; '*': all of the user's
   * @param call id of this forget: sent twice, it counts once
   * @param until by Redis's clock, ms: mints that began until then are concerned; default: now
   */
  async forget (user: string, name: string, call: string, until = 0): Promise<Forgotten> {
    const { values: [moment, dropped, names] } = await this.#run(FORGET, this.#keysOf(user), name, [call, until])
    return { moment: Number(moment), names: String(names).split(' '), dropped: Number(dropped) }
  }

  #run (script: Script, keys: UserKeys, name: string, args: (string | number | Buffer)[]) {
    return this.#scripts.run(script, [keys.urls], [this.#longestLifeMs, name, ...args])
  }

  /** When an owner cannot reach Redis, it releases its lock as soon as Redis can be reached. */
  async #releaseOnError<T> (user: string, app: App, owner: string | undefined, run: () => Promise<T>): Promise<T> {
    try {
      return await run()
    } catch (error) {
      if (owner !== undefined) this.release(user, app, owner)
      throw error
    }
  }

  #writeSpelling ({ urls }: UserKeys, spelling: Spelling | undefined): Buffer | string {
    return spelling === undefined ? '' : this.#encryptor.encrypt(`${urls}\nspelling`, JSON.stringify(spelling))
  }

  /** @returns nothing when it cannot be decrypted: then it is found out again */
  #readSpelling ({ urls }: UserKeys, kept: Buffer): Spelling | undefined {
    const plaintext = this.#encryptor.decrypt(`${urls}\nspelling`, kept)
    return plaintext === undefined ? undefined : JSON.parse(plaintext) as Spelling
  }

  #keysOf (user: string): UserKeys {
    return userKeys(this.#keyPrefix, user)
  }

  #decrypt (keys: UserKeys, app: App, { id, kept }: { id: string, kept: Buffer }, { at, sentAt }: { at: number, sentAt: number }): CachedUrl | undefined {
    const times = kept.toString('latin1', 0, 2 * TIME_DIGITS)
    const plaintext = this.#encryptor.decrypt(boundTo(keys, id, times), kept.subarray(2 * TIME_DIGITS))
    if (plaintext !== undefined) {
      const { redirectUrl, names } = readPlaintext(plaintext)
      const [startsAt, endsAt] = [times.slice(0, TIME_DIGITS), times.slice(TIME_DIGITS)].map(Number) as [number, number]
      // a clock that went back, of another Redis after a failover, would make its life longer
      if (startsAt > at || endsAt <= at) return undefined
      if (names.includes(app.key)) return { redirectUrl, urlId: id, names, bornAt: sentAt - (at - startsAt), lifeMs: endsAt - startsAt, startsAt }
    }
    this.#log.warn({ key: keys.urls, urlId: id }, 'tooljet-embed: cached URL cannot be decrypted, ignored')
    return undefined
  }
}

/** Redis still has it: takes the earliest start that is possible by both clocks. */
function atTheEarliest (known: CachedUrl, { at, sentAt }: { at: number, sentAt: number }): CachedUrl | undefined {
  if (known.startsAt === undefined || known.startsAt > at) return undefined
  known.bornAt = Math.min(known.bornAt, sentAt - (at - known.startsAt))
  return known
}

/** Associated data of a URL's ciphertext: when user, id or times were changed, it cannot be decrypted. */
function boundTo (keys: UserKeys, urlId: string, times: string): string {
  return `${keys.urls}\n${urlId}\n${times}`
}

function timesOf (startsAt: number, lifeMs: number): [starts: string, ends: string] {
  return [startsAt, startsAt + lifeMs].map((ms) => String(ms).padStart(TIME_DIGITS, '0')) as [string, string]
}

/** The names of the app that are not in the URL, then the URL. */
function plaintextOf ({ redirectUrl, names }: CachedUrl): string {
  const inUrl = namesIn(redirectUrl)
  return `${names.filter((name) => !inUrl.includes(name)).join(' ')}\n${redirectUrl}`
}

function readPlaintext (plaintext: string): Pick<CachedUrl, 'redirectUrl' | 'names'> {
  const end = plaintext.indexOf('\n')
  const redirectUrl = plaintext.slice(end + 1)
  return { redirectUrl, names: [...namesIn(redirectUrl), ...plaintext.slice(0, end).split(' ').filter((name) => name !== '')] }
}

function writeOutcome (error: unknown): string {
  const { code, retryAfter, queue } = isEmbedError(error) ? error : embedError('TOOLJET_EMBED_UNAVAILABLE')
  return JSON.stringify({ code, retryAfter, queue })
}

/** Reads a failure from Redis, which may be of an instance of another version, or of any form. */
function readOutcome (outcome: string): EmbedError {
  let read: { code?: unknown, retryAfter?: unknown, queue?: unknown } = {}
  try {
    read = Object(JSON.parse(outcome)) as typeof read
  } catch {
    // as if it had another code
  }
  const code = typeof read.code === 'string' && Object.hasOwn(errorCodes, read.code) && read.code !== 'TOOLJET_EMBED_OPTIONS' ? read.code as EmbedErrorCode : 'TOOLJET_EMBED_UNAVAILABLE'
  const retryAfter = typeof read.retryAfter === 'number' && read.retryAfter > 0 && read.retryAfter <= 3600 ? read.retryAfter : undefined
  return embedError(code, { retryAfter, queue: readQueue(read.queue) })
}

function readQueue (read: unknown): QueuePosition | undefined {
  const { position, etaSeconds = null, ticket } = Object(read) as Record<string, unknown>
  if (typeof position !== 'number' || typeof ticket !== 'string' || !(etaSeconds === null || typeof etaSeconds === 'number')) return undefined
  return { position, etaSeconds, ticket }
}
