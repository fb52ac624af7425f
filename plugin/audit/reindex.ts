import { randomBytes } from 'node:crypto'
import { MS_PER_HOUR } from '../durations.js'
import type { RedisLike } from '../redis/redis-like.js'
import { Script } from '../redis/script.js'
import { AuditKeys } from './audit-keys.js'
import { isoTime } from './event.js'
import { streamInfo } from './stream-info.js'

const SCRIPT = Script.of('audit/scripts/counters.lua', 'audit/scripts/calendar.lua', 'audit/scripts/entries.lua', 'audit/scripts/reindex.lua')

/** Slack for what is trimmed meanwhile, and for the difference of the clocks; `verify` has the same. */
export const SLACK_MS = 300_000

/** How a reindex ended: `taken` over by another one, or stopped at an id that no index can hold (`unfit`). */
export type ReindexResult = { state: 'done', entries: number } | { state: 'taken' } | { state: 'unfit', id: string }

/**
 * Makes the indexes of a stream anew, and the counters of the hours that are wholly in it, while others write to it.
 * @param onPage called with the number of entries of each page
 */
export async function reindex (redis: Pick<RedisLike, 'call' | 'eval' | 'evalsha' | 'xrange'>, stream: string, onPage?: (entries: number) => void): Promise<ReindexResult> {
  const keys = new AuditKeys(stream)
  const declared = [stream, keys.index, keys.counts, keys.newCounts, ...keys.buckets]
  const name = randomBytes(9).toString('base64url')
  const firstHour = await firstWholeHour(redis, stream)
  for (let from = ''; ;) {
    const [, state, id, count] = await SCRIPT.run(redis, declared, [0, name, from, firstHour]) as [number, string, string, number]
    if (state === 'done') return { state, entries: count }
    if (state === 'taken') return { state }
    if (state === 'unfit') return { state, id }
    onPage?.(count)
    from = id
  }
}

/** The first hour of which no event can have been trimmed, like `2026-01-31T08`; '' when none was trimmed. */
async function firstWholeHour (redis: Pick<RedisLike, 'call' | 'xrange'>, stream: string): Promise<string> {
  const [oldest] = await redis.xrange(stream, '-', '+', 'COUNT', 1)
  if (oldest === undefined || (await streamInfo(redis, stream))?.removed === 0) return ''
  return isoTime(Math.ceil((parseInt(oldest[0], 10) + SLACK_MS) / MS_PER_HOUR) * MS_PER_HOUR).slice(0, 13)
}
