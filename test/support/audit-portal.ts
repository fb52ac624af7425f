import type { Test } from 'tap'
import type { PortalSettings } from '../../example/portal/portal.js'
import type { RedisServer } from '../../example/redis.js'
import { openPortal } from './example-portal.js'
import { Live, type Entry } from './live.js'
import { ANA } from './portal.js'
import { until } from './until.js'

/** The admin of the audit log. */
export const OMAR = 'omar@acme.test'

/** What makes a Redis of today lack functions, like 6.2. */
export const AS_REDIS_6 = ['--rename-command', 'FCALL_RO', '', '--rename-command', 'FUNCTION', '']

/** The portal of the example, with what asks it and reads its log. @param server a Redis of its own, which stops with it */
export async function openAuditedPortal (t: Test, { server, audit }: { server?: RedisServer, audit?: NonNullable<PortalSettings['embed']>['audit'] } = {}) {
  const { app, redis, keyPrefix, port, url } = await openPortal(t, { server, embed: { rateLimit: false, ...(audit && { audit }) } })
  const stream = `${keyPrefix}audit`
  const cookie = (email: string) => ({ cookie: `portal_session=${app.jwt.sign({ email })}` })

  const get = async (path: string, email = OMAR) => {
    const reply = await fetch(url + path, { headers: cookie(email), redirect: 'manual' })
    return { status: reply.status, headers: reply.headers, body: await reply.json() as Record<string, any> }
  }
  const ask = async (email: string, body: object, userAgent = 'test') => {
    await (await fetch(`${url}/api/get-tooljet-url`, { method: 'POST', headers: { ...cookie(email), 'content-type': 'application/json', 'user-agent': userAgent }, body: JSON.stringify(body) })).text()
  }
  const log = async (): Promise<Entry[]> => (await redis.xrange(stream, '-', '+')).map(([id, flat]) => (
    { id, fields: Object.fromEntries(flat.flatMap((name, i) => (i % 2 === 0 ? [[name, flat[i + 1]!]] : []))) }
  ))
  /** All entries, once there are so many about answers. */
  const logOf = (answers: number) => until(`${answers} answers in the log`, async () => {
    const entries = await log()
    return entries.filter(({ fields }) => fields['event']!.startsWith('url.')).length === answers ? entries : undefined
  })
  const live = (query = '', headers: Record<string, string> = {}) => Live.open(t, `${url}/admin/audit/live${query}`, { ...cookie(OMAR), ...headers })
  return { app, redis, url, port, stream, cookie, get, ask, log, logOf, live }
}

export type AuditedPortal = Awaited<ReturnType<typeof openAuditedPortal>>

/** A log of other days in place of the portal's: Redis takes no event that is older than the newest. */
export async function writeLog ({ redis, stream, logOf, log }: AuditedPortal, entries: { ms: number, fields: Record<string, string> }[]): Promise<void> {
  await logOf(0)
  await until('the portal has opened its log', async () => (await log()).length > 0)
  await redis.del(stream)
  const pipeline = redis.pipeline()
  for (const { ms, fields } of entries) pipeline.xadd(stream, `${ms}-*`, ...Object.entries({ time: new Date(ms).toISOString(), ...fields }).flat())
  await pipeline.exec()
}

/** What the plots should show, counted by hand. */
export function countByHand (entries: Entry[]) {
  const sums: Record<string, number> = {}
  for (const { id, fields } of entries) {
    const source = { 'url.minted': 'minted', 'url.reused': 'reused', 'url.denied': 'refused', 'url.limited': 'refused', 'url.failed': 'refused' }[fields['event']!]
    if (source === undefined) continue
    const minute = Math.floor(Number(id.split('-')[0]) / 60_000) * 60_000
    for (const key of [`${minute} ${source}`, ...(source === 'refused' ? [`${minute} ${fields['code']}`] : [])]) sums[key] = (sums[key] ?? 0) + 1
  }
  return sums
}

export const CODES = ['TOOLJET_EMBED_ACCESS_DENIED', 'TOOLJET_EMBED_BUSY', 'FST_ERR_VALIDATION']

/** A busy half hour, and an older event that no plot shows. */
export function halfHour (now: number) {
  const kinds = [['url.minted'], ['url.reused'], ['url.reused'], ['url.denied', CODES[0]], ['url.limited', CODES[1]], ['url.failed', CODES[2]], ['url.forgotten'], ['audit.opened']]
  const oldest = now - now % 60_000 - 29 * 60_000
  return [oldest - 1, ...Array.from({ length: 900 }, (_, i) => oldest + Math.floor((now - oldest) * i / 900))].map((ms, i) => {
    const [event, code] = kinds[i * 7 % kinds.length]!
    return { ms, fields: { event: event!, email: ANA, outcome: code === undefined ? 'success' : 'failure', ...(code !== undefined && { code }) } }
  })
}
