import { randomInt } from 'node:crypto'
import type { Redis } from 'ioredis'
import { append, trim, type Retention } from '../../plugin/audit/append.js'
import type { AuditEntry, AuditFields } from '../../plugin/audit/event.js'
import { AuditKeys } from '../../plugin/audit/indexes.js'
import { compareIds } from '../../plugin/audit/reader.js'
import { fieldsOf } from '../../plugin/audit/stream.js'
import { keysOf } from './redis.js'

export const USERS = ['ana', 'ben', 'cleo', 'dora', 'eve', 'finn'].map((name) => `${name}@acme.test`)
export const APPS = ['sales', 'payroll', '8ba8bf0e-6b8f-4e07-abb9-6fd2d816fabc']
export const CODES = ['TOOLJET_EMBED_ACCESS_DENIED', 'TOOLJET_EMBED_RATE_LIMITED', 'FST_ERR_VALIDATION']
const EVENTS = ['url.minted', 'url.reused', 'url.denied', 'url.limited', 'url.failed']

const KEEP_ALL: Retention = { retentionMs: 0, maxEntries: 0 }

/** Something like what a portal leaves. */
export function someEvent (seq: number, instance = 'portal-1'): AuditFields {
  const event = oneOf(EVENTS)
  const failed = !['url.minted', 'url.reused'].includes(event)
  const fields: Record<string, string | undefined> = {
    time: new Date().toISOString(),
    event,
    outcome: failed ? 'failure' : 'success',
    code: failed ? oneOf(CODES) : undefined,
    email: oneOf(USERS),
    app: randomInt(8) === 0 ? undefined : oneOf(APPS),
    url_id: failed ? undefined : `u${seq}`,
    ip: `10.0.0.${randomInt(4)}`,
    instance,
    seq: String(seq),
  }
  return Object.fromEntries(Object.entries(fields).filter((field): field is [string, string] => field[1] !== undefined))
}

/** Writes events in batches of many sizes, as the plugin does. */
export async function writeEvents (redis: Redis, stream: string, count: number, { retention = KEEP_ALL, make = someEvent, most = 40 } = {}): Promise<void> {
  const keys = new AuditKeys(stream)
  for (let seq = 1; seq <= count;) {
    const batch = Array.from({ length: Math.min(1 + randomInt(most), count - seq + 1) }, () => make(seq++))
    const { excess } = await append(redis, keys, retention, Date.now(), 'portal-1', batch)
    if (excess !== undefined) await trim(redis, keys, excess)
  }
}

export async function entriesOf (redis: Redis, stream: string): Promise<AuditEntry[]> {
  return (await redis.xrange(stream, '-', '+')).map(([id, flat]) => ({ id, fields: fieldsOf(flat) }))
}

/** What the indexes hold, by key. An entry stays as long as one of its events does: the others of its batch are left out. */
export async function indexesOf (redis: Redis, stream: string): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>()
  const [oldest] = await entriesOf(redis, stream)
  for (const key of await keysOf(redis, stream)) {
    if (!/:(?:email|app):/.test(key)) continue
    const ids = (await redis.xrange(key, '-', '+')).map(([id, [, ids]]) => [id, ...(ids === '' ? [] : ids!.split(' '))])
    const alive = ids[0]!.filter((id) => compareIds(id, oldest!.id) >= 0)
    if (alive.length > 0) ids[0] = alive
    found.set(key, ids.flat())
  }
  return found
}

/** What they must hold. */
export async function expectedIndexesOf (redis: Redis, stream: string): Promise<Map<string, string[]>> {
  const keys = new AuditKeys(stream)
  const expected = new Map<string, string[]>()
  for (const { id, fields: { email, app } } of await entriesOf(redis, stream)) {
    for (const key of [email !== undefined && keys.email(email), app !== undefined && keys.app(app)]) {
      if (key !== false) expected.set(key, [...expected.get(key) ?? [], id])
    }
  }
  return expected
}

export function oneOf<T> (list: readonly T[]): T {
  return list[randomInt(list.length)]!
}
