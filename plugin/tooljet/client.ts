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

/** Failures from before a byte of the request was sent. */
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

/** What opens a session. */
export interface SessionRequest {
  appId: string
  accessToken: string
}

type MayRetry = (isUnsure: boolean) => Promise<boolean>

type ClientTarget = Pick<Target, 'url' | 'apiToken' | 'timeoutMs' | 'headers' | 'dispatcher'>

/** Calls ToolJet: one deadline over the whole call, and a second try only where the first did nothing. */
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
   * @param mayRetry asked before each further call; `isUnsure`: that the first did nothing is likely, and no more
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

  /** Its connections are closed for good. */
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
        fail = () => { throw unreachable(error) } // which is told, and not that the time was over in the pause
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
 * What says that nothing was processed: 408, 421 and 425 are of a server that did not take the request up, 502 and 503 of a
 * gateway without its server behind it. With `Retry-After` a 503 is a pause, not a hiccup.
 * A 422 is a constraint of ToolJet's database, against which two mints at once can run: nothing was written, and once more is enough.
 */
function isRetryable ({ status, headers }: Reply, tries: number): boolean {
  return status === 408 || status === 421 || status === 425 || status === 502 || (status === 503 && headers['retry-after'] === undefined) || (status === 422 && tries === 1)
}

/** Of several addresses of a name, the last one's code is all of them's. */
function isNotReached (error: unknown): boolean {
  const { code, message } = error as NodeJS.ErrnoException
  return NOT_REACHED.has(code ?? '') || /before secure TLS connection was established/.test(message)
}

function unreachable (error: unknown): unknown {
  if (isEmbedError(error)) return error
  return embedError('TOOLJET_EMBED_UNAVAILABLE', { detail: 'it cannot be reached', cause: sanitizeError(error) })
}
