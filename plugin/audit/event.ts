/** What an audit entry may be about. */
export type AuditEventName =
  | 'url.minted' | 'url.reused' | 'url.denied' | 'url.limited' | 'url.failed' | 'url.forgotten'
  | 'audit.opened' | 'audit.closed'

/** What happened; what is absent is left out of the entry. */
export interface AuditEvent {
  event: AuditEventName
  /** Error code, on failure. */
  code?: string | undefined
  email?: string | undefined
  /** Alias, id or slug. */
  app?: string | undefined
  urlId?: string | undefined
  /** Milliseconds since 1970. */
  expiresAt?: number | undefined
  requestId?: string | undefined
  ip?: string | undefined
  userAgent?: string | undefined
  durationMs?: number | undefined
}

/** An entry of the stream: flat, so that plain `redis-cli` shows it readably. */
export type AuditFields = Record<string, string>

export interface AuditEntry {
  /** Of the stream: when Redis got it, in milliseconds since 1970, and a number. */
  id: string
  fields: AuditFields
}

const SCHEMA = '1'
const MAX_LENGTH = 256
// A header can hold anything, a token pasted by mistake too.
const SECRETS = /pat_[0-9a-z]{8,}|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*/gi

/** @param time milliseconds since 1970, of the fleet's clock */
export function toFields (event: AuditEvent, stamp: { time: number, instance: string, seq: number }): AuditFields {
  const fields: Record<string, string | undefined> = {
    time: new Date(stamp.time).toISOString(),
    event: event.event,
    outcome: event.code === undefined ? 'success' : 'failure',
    code: event.code,
    email: event.email,
    app: foreign(event.app),
    url_id: event.urlId,
    expires_at: event.expiresAt === undefined ? undefined : new Date(event.expiresAt).toISOString(),
    request_id: foreign(event.requestId),
    ip: foreign(event.ip),
    user_agent: foreign(event.userAgent),
    duration_ms: event.durationMs === undefined ? undefined : String(Math.round(event.durationMs)),
    instance: stamp.instance,
    seq: String(stamp.seq),
    schema: SCHEMA,
  }
  return Object.fromEntries(Object.entries(fields).filter((field): field is [string, string] => field[1] !== undefined && field[1] !== ''))
}

/** Text that a client chose. */
export function foreign (text: string | undefined): string | undefined {
  return text?.replace(SECRETS, '[redacted]').slice(0, MAX_LENGTH)
}
