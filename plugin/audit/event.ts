import { sanitize } from '../observability/sanitize.js'

/** What an audit entry may be about. */
export type AuditEventName =
  | 'url.minted' | 'url.reused' | 'url.denied' | 'url.limited' | 'url.failed' | 'url.forgotten' | 'url.warmed'
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
  /** Of the request, W3C. */
  traceId?: string | undefined
  /** How many answers this event stands for; default: 1. */
  count?: number | undefined
  /** Who forgot, as the host says. */
  by?: string | undefined
  /** Why: of a forget as the host says, of a refusal one of `unknown_alias`, `not_listed`, `not_authorized`, `other_user`. */
  reason?: string | undefined
  /** The e-mail that was asked for in place of the user's own. */
  target?: string | undefined
  /** Of `audit.opened`: what the instance keeps, like `90d/1000000`. */
  retention?: string | undefined
  durationMs?: number | undefined
}

/** The event with texts of bounded length, which hold nothing else in memory. */
export function bounded (event: AuditEvent): AuditEvent {
  const { app, tooljet, requestId, ip, userAgent, by, reason, target } = event
  return {
    ...event,
    app: sanitize(app),
    tooljet: sanitize(tooljet),
    requestId: sanitize(requestId),
    ip: sanitize(ip),
    userAgent: sanitize(userAgent),
    by: sanitize(by),
    reason: sanitize(reason),
    target: sanitize(target),
  }
}

/** An entry of the stream: flat, so that plain `redis-cli` shows it readably. */
export type AuditFields = Record<string, string>

export interface AuditEntry {
  /** Of the stream: when Redis got it, in milliseconds since 1970, and a number. */
  id: string
  fields: AuditFields
}

/** Of the entries as they are now. An entry of another one cannot be checked. */
export const SCHEMA = '2'

/** All names of fields, in their order in an entry, which the mac covers. */
export const FIELD_NAMES = [
  'time', 'event', 'outcome', 'code', 'email', 'app', 'tooljet', 'url_id', 'expires_at', 'request_id', 'ip', 'user_agent',
  'trace_id', 'count', 'by', 'reason', 'target', 'retention', 'duration_ms', 'instance', 'seq', 'prev', 'schema', 'mac',
] as const

/** Where an event stands among those of its instance. */
export interface Position {
  instance: string
  /** Counts from 1. */
  seq: number
  /** The mac of the event before; '' for the first. */
  prev: string
}

/**
 * The fields of an event but for its mac.
 * @param event with texts of bounded length
 * @param time milliseconds since 1970, of the fleet's clock
 */
export function toFields (event: AuditEvent, time: number, { instance, seq, prev }: Position): AuditFields {
  const fields: AuditFields = {}
  const add = (name: typeof FIELD_NAMES[number], value: string | undefined): void => {
    // half a character would not come back from Redis as it was, and its mac would not hold
    if (value !== undefined && value !== '') fields[name] = value.toWellFormed()
  }
  add('time', new Date(time).toISOString())
  add('event', event.event)
  add('outcome', event.code === undefined ? 'success' : 'failure')
  add('code', event.code)
  add('email', event.email)
  add('app', event.app)
  add('tooljet', event.tooljet)
  add('url_id', event.urlId)
  add('expires_at', event.expiresAt === undefined ? undefined : new Date(event.expiresAt).toISOString())
  add('request_id', event.requestId)
  add('ip', event.ip)
  add('user_agent', event.userAgent)
  add('trace_id', event.traceId)
  add('count', event.count === undefined ? undefined : String(event.count))
  add('by', event.by)
  add('reason', event.reason)
  add('target', event.target)
  add('retention', event.retention)
  add('duration_ms', event.durationMs === undefined ? undefined : String(Math.round(event.durationMs)))
  add('instance', instance)
  add('seq', String(seq))
  add('prev', prev)
  add('schema', SCHEMA)
  return fields
}

/** Fields and values as Redis gives them. */
export function fieldsOf (flat: readonly string[]): AuditFields {
  const fields: AuditFields = {}
  for (let i = 0; i < flat.length; i += 2) fields[flat[i]!] = flat[i + 1]!
  return fields
}
