import type { RedisLike } from '../redis/redis-like.js'

/** What Redis 7 and later counts of a stream. */
export interface StreamInfo {
  /** Entries that were trimmed or deleted. */
  removed: number
  /** Id of the newest entry that was deleted, which trimming does not do. */
  deleted?: string
}

/** @returns nothing when Redis is older than 7, refuses XINFO to this user, or has no such stream */
export async function streamInfo (redis: Pick<RedisLike, 'call'>, stream: string): Promise<StreamInfo | undefined> {
  let reply: unknown
  try {
    reply = await redis.call('XINFO', 'STREAM', stream)
  } catch (error) {
    if (error instanceof Error && /^(?:ERR|NOPERM|WRONGTYPE)\b/.test(error.message)) return undefined
    throw error
  }
  const info = new Map(pairsOf(reply))
  const [length, added, deleted] = ['length', 'entries-added', 'max-deleted-entry-id'].map((name) => info.get(name))
  if (added === undefined) return undefined
  return { removed: Number(added) - Number(length), ...(deleted !== '0-0' && { deleted: String(deleted) }) }
}

/** A list, or an object from a client that gives maps as RESP3 has them. */
function pairsOf (reply: unknown): [unknown, unknown][] {
  if (!Array.isArray(reply)) return Object.entries(reply as object)
  return reply.flatMap((name, i) => (i % 2 === 0 ? [[name, reply[i + 1]] as [unknown, unknown]] : []))
}
