import { isIP } from 'node:net'
import { isoTime, type AuditEntry, type AuditEventName } from '../../audit/event.js'

/** Version of the Elastic Common Schema that the fields follow. */
export const ECS_VERSION = '8.17.0'

const KINDS: Record<AuditEventName, { category: string, type: string[] }> = {
  'url.minted': { category: 'api', type: ['access', 'allowed'] },
  'url.reused': { category: 'api', type: ['access', 'allowed'] },
  'url.denied': { category: 'api', type: ['access', 'denied'] },
  'url.limited': { category: 'api', type: ['access', 'denied'] },
  'url.failed': { category: 'api', type: ['access'] },
  'url.forgotten': { category: 'api', type: ['deletion'] },
  'url.warmed': { category: 'api', type: ['creation'] },
  'audit.opened': { category: 'process', type: ['start'] },
  'audit.closed': { category: 'process', type: ['end'] },
}
const NS_PER_MS = 1e6

/** An event in fields of the Elastic Common Schema, its own ones under `tooljet_embed`. Unknown fields of an entry are left out. */
export function toEcs ({ id, fields }: AuditEntry): object {
  const { time, event, outcome, code, email, ip, expires_at: expiresAt, duration_ms: duration } = fields
  const kind = event !== undefined && Object.hasOwn(KINDS, event) ? KINDS[event as AuditEventName] : undefined
  const isPseudonym = email?.startsWith('hmac:')
  return {
    '@timestamp': date(time) ?? isoTime(parseInt(id, 10)),
    ecs: { version: ECS_VERSION },
    event: {
      kind: 'event',
      ...(kind && { category: [kind.category], type: kind.type }),
      action: event,
      outcome: outcome === 'success' || outcome === 'failure' ? outcome : 'unknown',
      reason: fields['reason'],
      duration: whole(duration, NS_PER_MS),
      id,
      sequence: whole(fields['seq']),
      provider: 'fastify-tooljet-embed',
      dataset: 'tooljet_embed.audit',
    },
    error: present({ code }),
    user: present(isPseudonym === true ? { hash: email } : { email }),
    source: present({ address: ip, ip: ip !== undefined && isIP(ip) !== 0 && !ip.includes('%') ? ip : undefined }),
    user_agent: present({ original: fields['user_agent'] }),
    http: fields['request_id'] === undefined ? undefined : { request: { id: fields['request_id'] } },
    trace: present({ id: fields['trace_id'] }),
    tooljet_embed: {
      app: fields['app'],
      tooljet: fields['tooljet'],
      url_id: fields['url_id'],
      expires_at: date(expiresAt),
      count: whole(fields['count']),
      by: fields['by'],
      target: fields['target'],
      retention: fields['retention'],
      instance: fields['instance'],
      prev: fields['prev'],
      mac: fields['mac'],
      schema: fields['schema'],
    },
  }
}

/** `undefined` for an object without values. */
function present<T extends object> (object: T): T | undefined {
  return Object.values(object).some((value) => value !== undefined) ? object : undefined
}

function date (text: string | undefined): string | undefined {
  return text !== undefined && /^\d{4}-\d\d-\d\dT/.test(text) && !Number.isNaN(Date.parse(text)) ? text : undefined
}

function whole (text: string | undefined, factor = 1): number | undefined {
  const number = text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) * factor : NaN
  return Number.isSafeInteger(number) ? number : undefined
}
