import { namesIn } from '../access/apps.js'
import { isEmbedError, setRetryAfter, type EmbedError } from '../errors.js'
import type { Log } from '../observability/log.js'
import { mintChannel, traced, type TooljetEmbedMintTrace } from '../observability/tracing.js'
import type { AccessCheck } from './access-check.js'
import type { Spellings } from './spellings.js'
import { pauseAsked, readReply, type PauseAsked } from './replies.js'
import type { KeyNames } from '../crypto/names.js'
import type { ToolJetClient } from './client.js'
import type { MintQueue, QueueHealth, Turn, TurnRequest } from './mint-queue.js'
import type { Standing, StandingKeys } from './standings.js'

/** The part of `health()` about ToolJet: the outcome of this instance's last mint. */
export interface TooljetHealth {
  /** `unknown`: nothing was minted yet; `paused`: the whole fleet waits, for the time that ToolJet set. */
  state: 'unknown' | 'ok' | 'paused' | 'failing'
  /** The error code, when failing. */
  code?: string
  /** Seconds of the fleet's pause that are left, when paused. */
  pausedFor?: number
  /** Not with `mintLimit: false`. */
  queue?: QueueHealth
}

/** Request for a mint. */
export interface MintOrder extends TurnRequest {
  /** Of the user's e-mail. */
  spellings: Spellings
  /** Counts the mint, once however often it is called, when its turn has come; throws when the user has no mints left. */
  count: () => Promise<unknown> | undefined
  /** Called right before ToolJet is called; throws when another process may have the lock by now. */
  checkLock: () => void
}

/** A URL, and all names by which ToolJet knows the app; or the time after which to try again. */
export type Minted = { redirectUrl: string, names: string[] } | { heldForMs: number }

/** One ToolJet server, with its queue and its state. */
export class ToolJet {
  readonly url: string
  /** Origins that its embed URLs may have. */
  readonly embedOrigins: readonly string[]
  /** Bound of a mint call and its check of access, ms. */
  readonly timeoutMs: number
  /** TTL of a mint's lock in ms: longer than any mint, and how long an owner that died delays the others. */
  readonly lockTtlMs: number
  readonly #client: ToolJetClient
  readonly #queue: MintQueue
  readonly #accessCheck: AccessCheck | undefined
  readonly #names: KeyNames
  readonly #log: Log
  readonly #instance: string
  #lastFailure: { code: string, remedy?: string } | undefined
  #hasMinted = false

  /** @param options.instance name of this registration, for the subscribers of `tooljet-embed:mint` */
  constructor (deps: { client: ToolJetClient, queue: MintQueue, names: KeyNames, log: Log, accessCheck?: AccessCheck | undefined }, { url, embedOrigins, timeoutMs, lockTtlMs, instance }: { url: string, embedOrigins: readonly string[], timeoutMs: number, lockTtlMs: number, instance: string }) {
    this.url = url
    this.embedOrigins = embedOrigins
    this.timeoutMs = timeoutMs
    this.lockTtlMs = lockTtlMs
    this.#client = deps.client
    this.#queue = deps.queue
    this.#accessCheck = deps.accessCheck
    this.#names = deps.names
    this.#log = deps.log
    this.#instance = instance
  }

  open (): void {
    this.#queue.open()
  }

  close (): void {
    this.#queue.close()
  }

  /** Hash of a user of this ToolJet, for key names. */
  userHash (email: string): string {
    return this.#names.userHash(email)
  }

  /**
   * Mints a PAT when it is this user's turn; where ToolJet does not know the user in one spelling, another call, with a turn of its
   * own, asks for the next one.
   * @throws the coded error of ToolJet's refusal or failure, TOOLJET_EMBED_BUSY with a place in the queue, and what `count` and `checkLock`
   * throw
   */
  async mint (order: MintOrder): Promise<Minted> {
    for (;;) {
      try {
        return await this.#mintInTurn(order)
      } catch (error) {
        if (!isUserUnknown(error) || !order.spellings.refused()) throw error
      }
    }
  }

  async #mintInTurn (order: MintOrder): Promise<Minted> {
    const turn = await this.#queue.admit(order)
    if (!('calls' in turn)) return turn
    try {
      await order.count()
      order.checkLock()
    } catch (error) {
      await this.#queue.unused(turn, order)
      throw error
    }
    const redirectUrl = await this.#recordingOutcome(() => mintChannel.hasSubscribers ? this.#traced(order, turn) : this.#call(order, turn))
    await this.#accessCheck?.run(redirectUrl, order.app)
    return { redirectUrl, names: namesIn(redirectUrl) }
  }

  async #recordingOutcome (call: () => Promise<string>): Promise<string> {
    try {
      const redirectUrl = await call()
      this.#recordOutcome(undefined)
      return redirectUrl
    } catch (error) {
      this.#recordOutcome(error)
      throw error
    }
  }

  /** Publishes the call to the channels `tooljet-embed:mint`. */
  #traced (order: MintOrder, turn: Turn): Promise<string> {
    const trace: TooljetEmbedMintTrace = { instance: this.#instance, app: order.app.displayName, waitedMs: turn.waitedMs }
    return traced(mintChannel, trace, () => this.#call(order, turn).finally(() => { trace.calls = turn.calls.length }))
  }

  async #call (order: MintOrder, turn: Turn): Promise<string> {
    const { spellings, app } = order
    let asked: PauseAsked | undefined
    this.#queue.begins(turn)
    spellings.begins()
    try {
      const reply = await this.#client.mint({ email: spellings.current, ...app.name, patExpiry: app.patExpiry, sessionExpiry: app.sessionExpiry }, (isUnsure) => {
        if (isUnsure) this.#log.warn('tooljet-embed: ToolJet closed a connection just when a mint was sent on it, the mint is sent once more')
        return this.#queue.admitRetry(turn)
      })
      asked = pauseAsked(reply)
      const redirectUrl = readReply(reply, this.embedOrigins)
      spellings.accepted()
      await this.#queue.done(turn, order, 'done')
      return redirectUrl
    } catch (error) {
      if (asked !== undefined) throw await this.#queue.refused(turn, asked, order)
      if (!isUserUnknown(error)) spellings.failed()
      if (this.#client.closed) throw error // a call that is aborted by the close is not a failure of ToolJet
      if (isOutage(error)) setRetryAfter(error, await this.#queue.recordFailure(turn, order))
      else await this.#queue.done(turn, order, isUserUnknown(error) && !spellings.isLast ? 'respelled' : 'denied')
      throw error
    }
  }

  /** Keys of what `health` needs. */
  get standingKeys (): StandingKeys {
    return this.#queue.standingKeys
  }

  health (standing: Standing): TooljetHealth {
    const queue = this.#queue.health(standing)
    return { ...this.#state(this.#queue.pausedFor(standing.pauseMs)), ...(queue !== undefined && { queue }) }
  }

  #state (pausedFor: number): TooljetHealth {
    if (pausedFor > 0) return { state: 'paused', pausedFor: Math.ceil(pausedFor) }
    if (this.#lastFailure !== undefined) return { state: 'failing', code: this.#lastFailure.code }
    return { state: this.#hasMinted ? 'ok' : 'unknown' }
  }

  /** One log line per change of state; a refused user is not a failure of the server. */
  #recordOutcome (error: unknown): void {
    if (this.#client.closed) return
    const failure = failureOf(error)
    const before = this.#lastFailure
    this.#hasMinted = true
    this.#lastFailure = failure
    if (before?.code === failure?.code && before?.remedy === failure?.remedy) return
    if (failure === undefined) this.#log.info('tooljet-embed: ToolJet recovered')
    else this.#log.error({ err: error, ...failure }, `tooljet-embed: ToolJet mint failed${failure.remedy === undefined ? '' : `: ${failure.remedy}`}`)
  }
}

/** Whether ToolJet was unavailable: a refusal is a reply. */
function isOutage (error: unknown): error is EmbedError {
  return isEmbedError(error) && (error.code === 'TOOLJET_EMBED_UNAVAILABLE' || error.code === 'TOOLJET_EMBED_TIMEOUT')
}

function isUserUnknown (error: unknown): boolean {
  return isEmbedError(error) && error.code === 'TOOLJET_EMBED_USER_NOT_FOUND'
}

function failureOf (error: unknown): { code: string, remedy?: string } | undefined {
  if (!isEmbedError(error) || error.statusCode < 429) return undefined
  const { code, remedy } = error
  return { code, ...(remedy !== undefined && { remedy }) }
}
