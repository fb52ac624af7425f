import createError, { type FastifyError } from '@fastify/error'
import { sanitize } from './observability/sanitize.js'

/** The audit event that an answer with this error leaves; `undefined`: none, a 401 is the host's to log. */
type FailureEvent = 'url.denied' | 'url.limited' | 'url.failed' | undefined

interface ErrorDefinition {
  status: number
  event: FailureEvent
  message: string
  /** Seconds for `Retry-After` when the error is created without a value. */
  retryAfter?: number
}

const table = {
  TOOLJET_EMBED_UNAUTHENTICATED: { status: 401, event: undefined, message: 'There is no signed-in user%s' },
  TOOLJET_EMBED_BAD_REQUEST: { status: 400, event: 'url.denied', message: 'The app is not named as it should be%s' },
  TOOLJET_EMBED_EMAIL_MISMATCH: { status: 403, event: 'url.denied', message: 'The e-mail in the request is not the signed-in user\'s%s' },
  TOOLJET_EMBED_APP_NOT_ALLOWED: { status: 403, event: 'url.denied', message: 'This app may not be opened from here%s' },
  TOOLJET_EMBED_TENANT_UNKNOWN: { status: 403, event: 'url.denied', message: 'There is no ToolJet for this request%s' },
  TOOLJET_EMBED_RATE_LIMITED: { status: 429, event: 'url.limited', message: 'Too many requests of this user%s', retryAfter: 60 },
  TOOLJET_EMBED_USER_NOT_FOUND: { status: 404, event: 'url.denied', message: 'ToolJet does not know this user%s' },
  TOOLJET_EMBED_ACCESS_DENIED: { status: 403, event: 'url.denied', message: 'ToolJet does not let this user open this app%s' },
  TOOLJET_EMBED_APP_NOT_FOUND: { status: 404, event: 'url.denied', message: 'ToolJet does not know this app%s' },
  TOOLJET_EMBED_BUSY: { status: 429, event: 'url.limited', message: 'ToolJet\'s own request limit is reached%s', retryAfter: 60 },
  TOOLJET_EMBED_MISCONFIGURED: { status: 502, event: 'url.failed', message: 'ToolJet refuses this server, its operator has to mend that%s' },
  TOOLJET_EMBED_BAD_REPLY: { status: 502, event: 'url.failed', message: 'ToolJet\'s reply holds no usable URL%s' },
  TOOLJET_EMBED_UNAVAILABLE: { status: 503, event: 'url.failed', message: 'ToolJet is not available%s', retryAfter: 5 },
  TOOLJET_EMBED_TIMEOUT: { status: 504, event: 'url.failed', message: 'ToolJet did not answer in time%s' },
  TOOLJET_EMBED_REDIS_DOWN: { status: 503, event: 'url.failed', message: 'Redis is unavailable%s', retryAfter: 1 },
  TOOLJET_EMBED_OPTIONS: { status: 500, event: 'url.failed', message: 'fastify-tooljet-embed cannot be used like this%s' },
} satisfies Record<string, ErrorDefinition>

/** The code of any error that this plugin throws. */
export type EmbedErrorCode = keyof typeof table

/** Reason of a refusal, for the audit log. */
export type RefusalReason = 'unknown_alias' | 'not_listed' | 'not_authorized' | 'other_user'

/** Where a user waits for a mint. */
export interface QueuePosition {
  /** 1 is next. */
  position: number
  /** Seconds until the turn; `null`: not known, while ToolJet does not answer. */
  etaSeconds: number | null
  /** Opaque; sent back as `ticket` with the next request, it keeps the place even if Redis loses it. */
  ticket: string
}

/** State of a user's limit, as in the `x-ratelimit-*` headers. */
export interface LimitState {
  /** Requests, or mints, that a window allows. */
  limit: number
  /** Those that are left. */
  remaining: number
  /** Seconds until the window ends. */
  reset: number
}

/** Any error that this plugin throws: a `@fastify/error` with a `code` of `errorCodes`. */
export interface EmbedError extends FastifyError {
  /** What went wrong. */
  code: EmbedErrorCode
  /** HTTP status of the answer. */
  statusCode: number
  /** Seconds after which asking again makes sense; on every 429 and 503. */
  retryAfter?: number
  /** For the operator's log, and not for the user: what is wrong, and how to mend it. */
  remedy?: string
  /** Of `TOOLJET_EMBED_BUSY`, where there is a queue: the user's place in it. */
  queue?: QueuePosition
  /** Of `TOOLJET_EMBED_RATE_LIMITED`: where the user stands. */
  limit?: LimitState
  /** Of a refusal, for the audit log: what was refused about it. */
  reason?: RefusalReason
  /** Of `TOOLJET_EMBED_REDIS_DOWN`: Redis is there and refuses a command that this request needs. */
  isRefusal?: boolean
  /** `Retry-After`, for Fastify's default error handler to send. */
  headers?: Record<string, string>
}

/** Every error class of this plugin by its code: `error instanceof errorCodes.TOOLJET_EMBED_BUSY`. */
export const errorCodes = Object.fromEntries(
  Object.entries(table).map(([code, row]) => [code, createError(code, row.message, row.status)])
) as unknown as Readonly<Record<EmbedErrorCode, new (detail: string, options?: { cause?: unknown }) => EmbedError>>

/**
 * Makes the error of one code.
 * @param detail what exactly was wrong, in words; never a secret
 * @param remedy for the operator, in the log; not part of the answer
 * @param retryAfter seconds, for codes with status 429 or 503; default: the table's
 * @param queue of TOOLJET_EMBED_BUSY: the user's place
 * @param limit of TOOLJET_EMBED_RATE_LIMITED: where the user stands
 * @param reason for the audit log; not part of the answer
 * @param isRefusal of `TOOLJET_EMBED_REDIS_DOWN`: Redis is there, and refuses a command
 */
export function embedError (code: EmbedErrorCode, { detail, remedy, retryAfter, queue, limit, reason, isRefusal, cause }: { detail?: string, remedy?: string, retryAfter?: number | undefined, queue?: QueuePosition | undefined, limit?: LimitState, reason?: RefusalReason, isRefusal?: boolean, cause?: unknown } = {}): EmbedError {
  const end = cause === undefined ? '.' : '' // pino adds a colon and the cause's message
  const text = detail === undefined ? end : `: ${detail}${end}`
  const error = cause === undefined ? new errorCodes[code](text) : new errorCodes[code](text, { cause })
  if (remedy !== undefined) error.remedy = remedy
  if (queue !== undefined) error.queue = queue
  if (limit !== undefined) error.limit = limit
  if (reason !== undefined) error.reason = reason
  if (isRefusal === true) error.isRefusal = true
  setRetryAfter(error, retryAfter ?? (table[code] as ErrorDefinition).retryAfter)
  return error
}

/** @param seconds `undefined`: as it was */
export function setRetryAfter (error: EmbedError, seconds: number | undefined): void {
  if (seconds === undefined) return
  error.retryAfter = Math.max(1, Math.ceil(seconds))
  error.headers = { 'retry-after': String(error.retryAfter) }
}

/** The codes that have a status, each with its message. */
export function codesOf (status: number): { code: string, sentence: string }[] {
  return Object.entries(table)
    .filter(([code, row]) => row.status === status && code !== 'TOOLJET_EMBED_OPTIONS')
    .map(([code, row]) => ({ code, sentence: row.message.replace('%s', '.') }))
}

export function isEmbedError (error: unknown): error is EmbedError {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && Object.hasOwn(table, error.code)
}

/** What was thrown; in its place an error without anything, where that cannot be looked at without another one. */
export function readable (error: unknown): unknown {
  try {
    isEmbedError(error)
    codeOf(error)
    return error
  } catch {
    return new Error('what was thrown cannot be read')
  }
}

/** A library's error with its message and code only: its other fields may have a PAT (bytes of a reply) or a password (arguments of a command). */
export function sanitizeError (error: unknown): Error & { code?: string } {
  const { message, code, errors } = error as Error & { code?: unknown, errors?: Error[] }
  const words = message === '' && Array.isArray(errors) ? errors.map((one) => one.message).join(', ') : message // of a name with several addresses
  // a Redis that does not know a command (such as AUTH) repeats its arguments
  const sanitized: Error & { code?: string } = new Error(words.replace(/,? with args beginning with.*/s, ''))
  if (typeof code === 'string') sanitized.code = code
  return sanitized
}

/** Whether the error means that Redis is unavailable, and not that it refuses a command. */
export function isRedisOutage (error: unknown): boolean {
  return isEmbedError(error) && error.code === 'TOOLJET_EMBED_REDIS_DOWN' && error.isRefusal !== true
}

/**
 * The audit event of an error, one of the host's too; `undefined` for a 401, unless the user was known and the host's `authorize`
 * gave it.
 */
export function failureEvent (error: unknown, wasAuthorizing: boolean): FailureEvent {
  const event = isEmbedError(error) ? table[error.code].event : eventOf(statusOf(error))
  return event ?? (wasAuthorizing ? 'url.denied' : undefined)
}

function eventOf (status: number): FailureEvent {
  if (status === 401) return undefined
  return status < 500 ? 'url.denied' : 'url.failed'
}

/** The status that Fastify answers with, whatever was thrown. */
export function statusOf (error: unknown): number {
  return ownStatusOf(error) ?? 500
}

function ownStatusOf (error: unknown): number | undefined {
  const { statusCode, status } = (error ?? {}) as { statusCode?: unknown, status?: unknown }
  return [statusCode, status].map(Number).find((status) => status >= 400 && status <= 599)
}

/** The code of an error in the audit log: that of the host's own errors may be missing, then it is made of the status. */
export function codeOf (error: unknown): string {
  if (isEmbedError(error)) return error.code
  const { code } = (error ?? {}) as { code?: unknown }
  const status = ownStatusOf(error)
  return (typeof code === 'string' && sanitize(code)) || (status === undefined ? 'ERROR' : `HTTP_${status}`)
}
