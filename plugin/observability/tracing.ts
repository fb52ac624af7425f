import { tracingChannel, type Channel } from 'node:diagnostics_channel'
import { codeOf, isEmbedError } from '../errors.js'

/** What messages of both channels have; subscribers may add properties of their own. */
interface Trace {
  /** Which registration of the plugin this is: its name in the audit log. */
  readonly instance: string
  /** Alias, id or slug of the app, once it is known which. */
  app?: string | undefined
  /** At the end, on failure: a code of `errorCodes`, or that of the host's own error. */
  code?: string
  /** At the end: milliseconds since the start. */
  durationMs?: number
  /** On failure: code, words and stack of the error, without its cause; of the host's own errors the code alone. */
  error?: Error
}

/** Message of the channels `tracing:tooljet-embed:url:*`: one request, on the route or the decorator. It holds no e-mail and no secret. */
export interface TooljetEmbedUrlTrace extends Trace {
  /** Fastify's `request.id`. */
  readonly requestId: string | undefined
  /** At the end, on success. */
  source?: 'minted' | 'reused'
  /** At the end, on success: the opaque id of the URL. */
  urlId?: string
}

/** Message of the channels `tracing:tooljet-embed:mint:*`: one mint call to ToolJet, its retries included. It holds no e-mail and no secret. */
export interface TooljetEmbedMintTrace extends Trace {
  /** Milliseconds for which the user waited for a turn. */
  readonly waitedMs: number
  /** At the end: HTTP calls that it took. */
  calls?: number
}

/** What is used of a `TracingChannel`, whose type parameters have changed places between versions of @types/node. */
interface TraceChannel<Message extends Trace> {
  readonly asyncEnd: Channel
  readonly hasSubscribers: boolean
  tracePromise (run: () => Promise<void>, message: Message): Promise<void>
}

export const urlChannel: TraceChannel<TooljetEmbedUrlTrace> = tracingChannel('tooljet-embed:url')
export const mintChannel: TraceChannel<TooljetEmbedMintTrace> = tracingChannel('tooljet-embed:mint')

/**
 * Publishes the outcome of `run` to a channel's subscribers. Call it only if there are some: without subscribers it should cost nothing.
 * The result, and the cause of an error, are not in the message: the one is a secret, the other may contain one.
 * @throws what `run` throws
 */
export async function traced<C extends Trace, T> (channel: TraceChannel<C>, message: C, run: () => Promise<T>): Promise<T> {
  const startedAt = performance.now()
  let outcome: () => T
  await channel.tracePromise(async () => {
    try {
      const value = await run()
      outcome = () => value
    } catch (error) {
      outcome = () => { throw error }
      message.code = codeOf(error)
      throw toTraceError(error)
    } finally {
      message.durationMs = performance.now() - startedAt
    }
  }, message).catch(() => {})
  return outcome!()
}

/** An error as subscribers get it: without its cause. */
class TraceError extends Error {
  readonly code: string
  statusCode?: number

  constructor (message: string, code: string) {
    super(message)
    this.code = code
  }
}

function toTraceError (error: unknown): Error {
  if (!isEmbedError(error)) return new TraceError('an error of the host\'s own', codeOf(error))
  const traceError = new TraceError(error.message, error.code)
  traceError.name = error.name
  traceError.stack = error.stack
  traceError.statusCode = error.statusCode
  return traceError
}
