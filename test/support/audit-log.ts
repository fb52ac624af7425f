import { randomBytes, randomInt } from 'node:crypto'
import type { Redis } from 'ioredis'
import { append, toQueued, type Retention } from '../../plugin/audit/append.js'
import { AuditKeys } from '../../plugin/audit/audit-keys.js'
import { FIELD_NAMES, fieldsOf, SCHEMA, type AuditEntry, type AuditFields } from '../../plugin/audit/event.js'
import { EventSigner } from '../../plugin/audit/signer.js'
import { RedisCircuitBreaker } from '../../plugin/redis/circuit-breaker.js'
import { RedisClock } from '../../plugin/redis/clock.js'
import { Script } from '../../plugin/redis/script.js'
import { ScriptClient } from '../../plugin/redis/script-client.js'
import { systemTimers as timers } from '../../plugin/timers.js'

export const USERS = ['ana', 'ben', 'cleo', 'dora', 'eve', 'finn'].map((name) => `${name}@acme.test`)
export const APPS = ['sales', 'payroll', '8ba8bf0e-6b8f-4e07-abb9-6fd2d816fabc']
export const CODES = ['TOOLJET_EMBED_ACCESS_DENIED', 'TOOLJET_EMBED_RATE_LIMITED', 'FST_ERR_VALIDATION']
const EVENTS = ['url.minted', 'url.reused', 'url.denied', 'url.limited', 'url.failed']
const RECORD = 14

/** Buckets out of which what was trimmed is taken: some, and others not yet. */
const TIDIED = 10

const KEEP_ALL: Retention = { retentionMs: 0, maxEntries: 0 }
const TRIM_INDEX = Script.of('audit/scripts/trim-index.lua')

/** Something like what a portal leaves. */
export function someEvent (seq: number): AuditFields {
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
    count: event === 'url.limited' && randomInt(2) === 0 ? String(2 + randomInt(50)) : undefined,
  }
  return Object.fromEntries(Object.entries(fields).filter((field): field is [string, string] => field[1] !== undefined))
}

/** The plugin's way to Redis. */
async function scriptsOf (redis: Redis): Promise<ScriptClient> {
  const breaker = new RedisCircuitBreaker({ redis }, 10_000, { timers, log: { info () {}, warn () {}, error () {} } })
  await breaker.start()
  return new ScriptClient({ breaker, clock: new RedisClock(timers), timers })
}

/** Signs as all writers of these tests do. */
export function signerOf (stream: string): EventSigner {
  return new EventSigner([Buffer.from('a key of the tests')], stream)
}

/** Writes events of one instance in batches of many sizes, as the plugin does. */
export async function writeEvents (redis: Redis, stream: string, count: number, { retention = KEEP_ALL, make = someEvent, most = 40 } = {}): Promise<void> {
  const [keys, scripts, signer] = [new AuditKeys(stream), await scriptsOf(redis), signerOf(stream)]
  const instance = `portal-${randomBytes(4).toString('hex')}`
  let prev = ''
  const next = (seq: number) => {
    const made: AuditFields = { time: new Date().toISOString(), instance, seq: String(seq), ...prev !== '' && { prev }, schema: SCHEMA, ...make(seq) }
    const fields = Object.fromEntries(FIELD_NAMES.flatMap((name) => (made[name] === undefined ? [] : [[name, made[name]]]))) as AuditFields
    const signed = signer.sign(fields, Date.parse(fields['time']!))
    prev = signed.mac
    return toQueued(signed, fields, keys)
  }
  for (let seq = 1; seq <= count;) {
    const batch = Array.from({ length: Math.min(1 + randomInt(most), count - seq + 1) }, () => next(seq++))
    const { written, trimmed } = (await append(scripts, keys, retention, '', instance, batch))!
    if (written !== batch.length) throw new Error(`${written} of ${batch.length} events were written`)
    if (trimmed === 0) continue
    for (let i = 0; i < TIDIED; i++) await scripts.run(TRIM_INDEX, [stream, keys.index, oneOf(keys.buckets)], [])
  }
}

export async function entriesOf (redis: Redis, stream: string): Promise<AuditEntry[]> {
  return (await redis.xrange(stream, '-', '+')).map(([id, flat]) => ({ id, fields: fieldsOf(flat) }))
}

/** What the indexes hold of entries that are in the stream, by bucket: hash and id of each record. */
export async function indexesOf (redis: Redis, stream: string): Promise<Map<string, string[]>> {
  const ids = new Set((await entriesOf(redis, stream)).map(({ id }) => id))
  const found = new Map<string, string[]>()
  for (const key of new AuditKeys(stream).buckets) {
    const bytes = await redis.getBuffer(key) ?? Buffer.alloc(0)
    const records = Array.from({ length: bytes.length / RECORD }, (_, i) => [bytes.readUInt32BE(i * RECORD), `${bytes.readUIntBE(i * RECORD + 4, 6)}-${bytes.readUInt32BE(i * RECORD + 10)}`] as const)
    const alive = records.filter(([, id]) => ids.has(id)).map(([hash, id]) => `${hash} ${id}`)
    if (alive.length > 0) found.set(key, alive)
  }
  return found
}

/** What they must hold. */
export async function expectedIndexesOf (redis: Redis, stream: string): Promise<Map<string, string[]>> {
  const keys = new AuditKeys(stream)
  const expected = new Map<string, string[]>(keys.buckets.map((key) => [key, []]))
  for (const { id, fields: { email, app } } of await entriesOf(redis, stream)) {
    for (const place of [email !== undefined && keys.email(email), app !== undefined && keys.app(app)]) {
      if (place !== false) expected.get(place.key)!.push(`${place.hash} ${id}`)
    }
  }
  return new Map([...expected].filter(([, records]) => records.length > 0))
}

export function oneOf<T> (list: readonly T[]): T {
  return list[randomInt(list.length)]!
}
