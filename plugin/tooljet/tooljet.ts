import type { App } from '../access/apps.js'
import { isEmbedError } from '../errors.js'
import type { Log } from '../observability/log.js'
import { mintChannel, traced } from '../observability/tracing.js'
import type { Gate } from './gate.js'
import { pauseAsked, readReply } from './replies.js'
import { namesIn } from '../cache/store.js'
import type { KeyNames } from '../crypto/names.js'
import type { ToolJetClient } from './client.js'

/** What `health()` tells of ToolJet: how the last mint of this instance went. */
export interface ToolJetHealth {
  /** `unknown`: nothing was minted yet; `paused`: ToolJet said so, to the whole fleet. */
  state: 'unknown' | 'ok' | 'paused' | 'failing'
  /** The error code, when failing. */
  code?: string
  /** Seconds of the fleet's pause that are left, when paused. */
  pausedFor?: number
}

/** A server on the other side, and what is kept apart from all others'. */
export class ToolJet {
  readonly url: string
  /** Origins that its embed URLs may have. */
  readonly embedOrigins: readonly string[]
  /** Bound of a mint call, ms. */
  readonly timeoutMs: number
  /** TTL of a mint's lock in ms: longer than any mint, and how long an owner that died delays the others. */
  readonly lockTtlMs: number
  readonly #client: ToolJetClient
  readonly #gate: Gate
  readonly #names: KeyNames
  readonly #log: Log
  readonly #instance: string
  #trouble: { code: string, mend?: string } | undefined
  #asked = false

  /** @param options.instance name of this registration, for the subscribers of `tooljet-embed:mint` */
  constructor (parts: { client: ToolJetClient, gate: Gate, names: KeyNames, log: Log }, { url, embedOrigins, timeoutMs, lockTtlMs, instance }: { url: string, embedOrigins: readonly string[], timeoutMs: number, lockTtlMs: number, instance: string }) {
    this.url = url
    this.embedOrigins = embedOrigins
    this.timeoutMs = timeoutMs
    this.lockTtlMs = lockTtlMs
    this.#client = parts.client
    this.#gate = parts.gate
    this.#names = parts.names
    this.#log = parts.log
    this.#instance = instance
  }

  /** What stands for a user of this ToolJet in key names. */
  userHash (email: string): string {
    return this.#names.userHash(email)
  }

  /** @throws TOOLJET_EMBED_BUSY while ToolJet asked not to be called, TOOLJET_EMBED_UNAVAILABLE while it is only probed */
  async mayBeCalled (): Promise<void> {
    await this.#gate.check()
  }

  /**
   * Mints a PAT.
   * @param checkLock called right before ToolJet is
   * @returns its URL, and all names by which ToolJet knows the app
   * @throws the coded error of ToolJet's refusal or failure, and what `checkLock` throws
   */
  async mint (email: string, app: App, checkLock: () => void): Promise<{ redirectUrl: string, names: string[] }> {
    await this.#gate.enter()
    checkLock()
    try {
      const redirectUrl = await (mintChannel.hasSubscribers
        ? traced(mintChannel, { instance: this.#instance, app: app.label }, () => this.#call(email, app))
        : this.#call(email, app))
      await this.#note(undefined)
      return { redirectUrl, names: namesIn(redirectUrl) }
    } catch (error) {
      await this.#note(error)
      throw error
    }
  }

  async #call (email: string, app: App): Promise<string> {
    const reply = await this.#client.mint({ email, ...app.name, patExpiry: app.patExpiry, sessionExpiry: app.sessionExpiry })
    const pause = pauseAsked(reply)
    if (pause !== undefined) await this.#gate.pause(pause)
    return readReply(reply, this.embedOrigins)
  }

  /** Of the fleet's pause, in Redis. */
  get pauseKey (): string {
    return this.#gate.pauseKey
  }

  /** @param pauseMs what Redis says is left of the pause; 0: none, or not known */
  health (pauseMs: number): ToolJetHealth {
    const pausedFor = this.#gate.pausedFor(pauseMs)
    if (pausedFor > 0) return { state: 'paused', pausedFor: Math.ceil(pausedFor) }
    if (this.#trouble !== undefined) return { state: 'failing', code: this.#trouble.code }
    return { state: this.#asked ? 'ok' : 'unknown' }
  }

  /** One log line per change of state; that a user is refused is no trouble of the server. */
  async #note (error: unknown): Promise<void> {
    if (this.#client.closed) return // what that breaks off is no trouble of ToolJet's
    if (isOutage(error)) await this.#gate.failed()
    else await this.#gate.works()
    const trouble = troubleOf(error)
    const before = this.#trouble
    this.#asked = true
    this.#trouble = trouble
    if (before?.code === trouble?.code && before?.mend === trouble?.mend) return
    if (trouble === undefined) this.#log.info('tooljet-embed: ToolJet mints again')
    else this.#log.error({ err: error, ...trouble }, `tooljet-embed: ToolJet does not mint${trouble.mend === undefined ? '' : `: ${trouble.mend}`}`)
  }
}

/** ToolJet is not there: a refusal, too, is an answer. */
function isOutage (error: unknown): boolean {
  return isEmbedError(error) && (error.code === 'TOOLJET_EMBED_UNAVAILABLE' || error.code === 'TOOLJET_EMBED_TIMEOUT')
}

function troubleOf (error: unknown): { code: string, mend?: string } | undefined {
  if (!isEmbedError(error) || error.statusCode < 429) return undefined
  const { code, mend } = error
  return { code, ...(mend !== undefined && { mend }) }
}
