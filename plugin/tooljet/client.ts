import type { Dispatcher } from 'undici'
import { embedError, isEmbedError, plainError } from '../errors.js'
import type { Timers } from '../timers.js'
import type { Pools } from './pools.js'
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

type ClientTarget = Pick<Target, 'url' | 'apiToken' | 'timeoutMs' | 'headers' | 'dispatcher'>

/** Calls ToolJet: one deadline over the whole call, and a second try only where the first surely did nothing. */
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
   * @param mayRetry asked before each further call
   * @throws TOOLJET_EMBED_TIMEOUT when the deadline passed
   * @throws TOOLJET_EMBED_UNAVAILABLE when ToolJet cannot be reached
   * @throws TOOLJET_EMBED_BAD_REPLY when the reply is longer than its bound
   */
  mint (body: MintRequest, mayRetry: () => Promise<boolean>): Promise<Reply> {
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
      if (deadline.signal.aborted && !this.closed && !isEmbedError(error)) throw embedError('TOOLJET_EMBED_TIMEOUT', { cause: plainError(error) })
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

  async #withRetries (body: MintRequest, mayRetry: () => Promise<boolean>, signal: AbortSignal): Promise<Reply> {
    for (let tries = 1; ; tries++) {
      let fail: () => Reply
      try {
        const reply = await this.#call(MINT_PATH, body, signal, { authorization: `Basic ${this.#target.apiToken}` })
        if (tries > MAX_RETRIES || !isPassing(reply, tries)) return reply
        fail = () => reply
      } catch (error) {
        if (signal.aborted || tries > MAX_RETRIES || !NOT_REACHED.has(systemCodeOf(error))) throw error
        fail = () => { throw unreachable(error) } // which is told, and not that the time was over in the pause
      }
      await Promise.race([this.#timers.sleep(RETRY_AFTER_MS * 2 ** (tries - 1) * (0.5 + this.#timers.random())), aborted(signal)])
      if (signal.aborted || !await mayRetry()) return fail()
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
    return { status: response.statusCode, headers: response.headers, body: await readBounded(response.body) }
  }
}

function aborted (signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => { signal.addEventListener('abort', () => resolve(), { once: true }) })
}

async function readBounded (body: Dispatcher.ResponseData['body']): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    bytes += chunk.length
    // leaving the loop destroys the stream, and its connection
    if (bytes > MAX_REPLY_BYTES) throw embedError('TOOLJET_EMBED_BAD_REPLY', { mend: `it is longer than ${MAX_REPLY_BYTES} bytes` })
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/**
 * A gateway without its server behind it: the mint did not happen. With `Retry-After` it is a pause, not a hiccup.
 * A 422 is a constraint of ToolJet's database, against which two mints at once can run: nothing was written, and once more is enough.
 */
function isPassing ({ status, headers }: Reply, tries: number): boolean {
  return status === 502 || (status === 503 && headers['retry-after'] === undefined) || (status === 422 && tries === 1)
}

function systemCodeOf (error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}

function unreachable (error: unknown): unknown {
  if (isEmbedError(error)) return error
  return embedError('TOOLJET_EMBED_UNAVAILABLE', { detail: 'it cannot be reached', cause: plainError(error) })
}
