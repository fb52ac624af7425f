import { foreign } from '../observability/foreign.js'

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
  /** URL of the ToolJet, where there may be several. */
  tooljet?: string | undefined
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

/** @param time milliseconds since 1970, of the fleet's clock */
export function toFields (event: AuditEvent, stamp: { time: number, instance: string, seq: number }): AuditFields {
  const fields: AuditFields = {}
  const add = (name: string, value: string | undefined): void => {
    // half a character would not come back from Redis as it was, and its mac would not hold
    if (value !== undefined && value !== '') fields[name] = value.toWellFormed()
  }
  add('time', new Date(stamp.time).toISOString())
  add('event', event.event)
  add('outcome', event.code === undefined ? 'success' : 'failure')
  add('code', event.code)
  add('email', event.email)
  add('app', foreign(event.app))
  add('tooljet', foreign(event.tooljet))
  add('url_id', event.urlId)
  add('expires_at', event.expiresAt === undefined ? undefined : new Date(event.expiresAt).toISOString())
  add('request_id', foreign(event.requestId))
  add('ip', foreign(event.ip))
  add('user_agent', foreign(event.userAgent))
  add('duration_ms', event.durationMs === undefined ? undefined : String(Math.round(event.durationMs)))
  add('instance', stamp.instance)
  add('seq', String(stamp.seq))
  add('schema', SCHEMA)
  return fields
}
