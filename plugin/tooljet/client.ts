import { embedError, isEmbedError, sanitizeError } from '../errors.js'
import type { Timers } from '../timers.js'
import { readBytes, textOf } from './body.js'
import { wasClosedAsIdle, type Pools } from './pools.js'
import type { Reply } from './replies.js'
import type { Target } from './target.js'

export const MINT_PATH = '/api/ext/users/personal-access-token'
export const SESSION_PATH = '/api/ext/users/session'
const MAX_REPLY_BYTES = 64 * 1024
const MAX_RETRIES = 2
const RETRY_AFTER_MS = 100

/** Error codes of calls of which no byte was sent. */
const NOT_REACHED = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'])

export interface MintRequest {
  email: string
  appId?: string
  appSlug?: string
  /** Seconds. */
  patExpiry: number
  /** Minutes. */
  sessionExpiry: number
}

/** Body of a session call. */
export interface SessionRequest {
  appId: string
  accessToken: string
}

type MayRetry = (isUnsure: boolean) => Promise<boolean>

type ClientTarget = Pick<Target, 'url' | 'apiToken' | 'timeoutMs' | 'headers' | 'dispatcher'>

/** Calls ToolJet: with one deadline for the whole call, and with retries only where the call before had no effect. */
export class ToolJetClient {
  readonly #pools: Pools
  readonly #timers: Timers
  readonly #target: ClientTarget
  readonly #origin: string
  readonly #basePath: string

  constructor (pools: Pools, timers: Timers, target: ClientTarget) {
    const { origin, pathname } = new URL(target.url)
    this.#pools = pools
    this.#timers = timers
    this.#target = target
    this.#origin = origin
    this.#basePath = pathname.replace(/\/+$/, '')
  }

  /**
   * @param mayRetry asked before each retry; `isUnsure`: the call before probably had no effect, but that is not certain
   * @throws TOOLJET_EMBED_TIMEOUT when the deadline passed
   * @throws TOOLJET_EMBED_UNAVAILABLE when ToolJet cannot be reached
   * @throws TOOLJET_EMBED_BAD_REPLY when the reply is longer than its bound
   */
  mint (body: MintRequest, mayRetry: MayRetry): Promise<Reply> {
    return this.#inTime((signal) => this.#withRetries(body, mayRetry, signal))
  }

  /**
   * Opens a session with a PAT, as the page of its URL does: without the API token, and once.
   * @returns the status of the reply
   * @throws as `mint`
   */
  async openSession (body: SessionRequest): Promise<number> {
    const { status } = await this.#inTime((signal) => this.#call(SESSION_PATH, body, signal))
    return status
  }

  async #inTime (call: (signal: AbortSignal) => Promise<Reply>): Promise<Reply> {
    const deadline = new AbortController()
    const over = this.#pools.begin(() => deadline.abort())
    const cancel = this.#timers.after(this.#target.timeoutMs, () => deadline.abort())
    try {
      return await call(deadline.signal)
    } catch (error) {
      if (deadline.signal.aborted && !this.closed && !isEmbedError(error)) throw embedError('TOOLJET_EMBED_TIMEOUT', { cause: sanitizeError(error) })
      throw unreachable(error)
    } finally {
      cancel()
      over()
    }
  }

  /** Whether its connections were closed by `close()`. */
  get closed (): boolean {
    return this.#pools.closed
  }

  async #withRetries (body: MintRequest, mayRetry: MayRetry, signal: AbortSignal): Promise<Reply> {
    for (let tries = 1; ; tries++) {
      let fail: () => Reply
      let isUnsure = false
      try {
        const reply = await this.#call(MINT_PATH, body, signal, { authorization: `Basic ${this.#target.apiToken}` })
        if (tries > MAX_RETRIES || !isRetryable(reply, tries)) return reply
        fail = () => reply
      } catch (error) {
        isUnsure = wasClosedAsIdle(error)
        if (signal.aborted || tries > MAX_RETRIES || !(isUnsure || isNotReached(error))) throw error
        fail = () => { throw unreachable(error) } // this error, and not a timeout, when the deadline passes in the pause
      }
      await Promise.race([this.#timers.sleep(RETRY_AFTER_MS * 2 ** (tries - 1) * (0.5 + this.#timers.random())), aborted(signal)])
      if (signal.aborted || !await mayRetry(isUnsure)) return fail()
    }
  }

  async #call (path: string, body: MintRequest | SessionRequest, signal: AbortSignal, headers: Record<string, string> = {}): Promise<Reply> {
    const { url, timeoutMs, dispatcher = this.#pools.of(url, timeoutMs) } = this.#target
    const response = await dispatcher.request({
      origin: this.#origin,
      method: 'POST',
      path: this.#basePath + path,
      headers: { ...this.#target.headers, ...headers, 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify(body),
      signal,
    })
    const { statusCode: status, headers: responseHeaders } = response
    return { status, headers: responseHeaders, body: await textOf(await readBytes(response.body, MAX_REPLY_BYTES), responseHeaders, MAX_REPLY_BYTES) }
  }
}

function aborted (signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => { signal.addEventListener('abort', () => resolve(), { once: true }) })
}

/**
 * Replies after which nothing was processed: 408, 421 and 425 of a server that did not accept the request, 502 and 503 of a
 * gateway that did not reach its server (a 503 with `Retry-After` asks for a pause, and is not retried here). A 422 is a
 * constraint of ToolJet's database that two mints at once can violate: nothing was written, one retry is enough.
 */
function isRetryable ({ status, headers }: Reply, tries: number): boolean {
  return status === 408 || status === 421 || status === 425 || status === 502 || (status === 503 && headers['retry-after'] === undefined) || (status === 422 && tries === 1)
}

/** Whether ToolJet was not reached. With several addresses of a name, the error has the code of the last one. */
function isNotReached (error: unknown): boolean {
  const { code, message } = error as NodeJS.ErrnoException
  return NOT_REACHED.has(code ?? '') || /before secure TLS connection was established/.test(message)
}

function unreachable (error: unknown): unknown {
  if (isEmbedError(error)) return error
  return embedError('TOOLJET_EMBED_UNAVAILABLE', { detail: 'it cannot be reached', cause: sanitizeError(error) })
}
