import { lua } from '../redis/lua.js'
import type { RedisLike } from '../redis/redis-like.js'
import { Script } from '../redis/script.js'
import type { AuditKeys } from './indexes.js'
import type { AuditFields } from './event.js'

const APPEND = new Script(lua('audit/scripts/append.lua'))
const TRIM = new Script(lua('audit/scripts/trim.lua'))

export interface Retention {
  /** 0: for ever. */
  retentionMs: number
  /** 0: any number. */
  maxEntries: number
}

/** Entries that are too many or too old. */
export interface Excess {
  /** Id of the oldest entry to keep. */
  keep: string
  /** Of the entries before it. */
  emails: readonly string[]
  apps: readonly string[]
}

export interface Appended {
  /** Redis's time. */
  now: number
  /** Id of the last event: empty when all were there before, none when they came too late and are not written. */
  last: string | undefined
  /** For `trim`. */
  excess: Excess | undefined
  /** Why nobody could look for what is too much or too old; empty when all is well. */
  problem: string
}

/**
 * Writes one instance's events, each once.
 * @param sentAt milliseconds since 1970, of the fleet's clock
 */
export async function append (redis: RedisLike, keys: AuditKeys, { retentionMs, maxEntries }: Retention, sentAt: number, instance: string, events: readonly AuditFields[]): Promise<Appended> {
  const declared = new Map([[keys.stream, 1], [keys.written(instance), 2]])
  const numberOf = (key: string): number => {
    let number = declared.get(key)
    if (number === undefined) declared.set(key, number = declared.size + 1)
    return number
  }
  const numbers = new Map<string, number>()
  const shapes: unknown[] = []
  const rows: unknown[] = []
  for (const fields of events) {
    const own = Object.keys(fields)
    const shape = own.join()
    if (!numbers.has(shape)) numbers.set(shape, shapes.push([own.indexOf('seq') + 1, ...own]))
    const { email, app } = fields
    const indexes = [email === undefined ? 0 : numberOf(keys.email(email)), app === undefined ? 0 : numberOf(keys.app(app))]
    rows.push([numbers.get(shape), ...indexes, ...Object.values(fields)])
  }
  const args = [sentAt, maxEntries, retentionMs, JSON.stringify([shapes, rows])]
  const [now, last, problem = '', keep, emails = [], apps = []] = await APPEND.run(redis, [...declared.keys()], args) as [string, string?, string?, string?, string[]?, string[]?]
  return { now: Number(now), last, excess: keep === undefined ? undefined : { keep, emails, apps }, problem }
}

/**
 * Removes what `append` found to be too many or too old, with its indexes; any number of times, by any instance.
 * @returns why something is still there; empty when all is well
 */
export async function trim (redis: RedisLike, keys: AuditKeys, { keep, emails, apps }: Excess): Promise<string> {
  const indexes = [...emails.map((email) => keys.email(email)), ...apps.map((app) => keys.app(app))]
  return await TRIM.run(redis, [keys.stream, ...indexes], [keep]) as string
}
