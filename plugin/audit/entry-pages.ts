import { isUtf8 } from 'node:buffer'
import type { RedisArgument } from '../redis/redis-like.js'
import { Script } from '../redis/script.js'
import type { RawEntry } from './verify.js'

/** Reads a part of a stream; an entry that is larger than any event has its size only. */
export const READ = Script.of('audit/scripts/entries.lua', 'audit/scripts/read.lua')

/** Not what Redis has: bytes that are no UTF-8 would come as other text, which may be that of an event. */
const NO_TEXT = ['no UTF-8', '']

/**
 * All entries, oldest first, in pages of bounded size, whatever is in the stream. Redis reads a page while the one before
 * is looked at.
 * @param read runs `READ` with these arguments @returns its values after the time, strings as bytes
 * @param after id after which to begin; '': the start
 */
export async function * entryPages (read: (args: readonly string[]) => Promise<unknown[]>, after = ''): AsyncGenerator<RawEntry[]> {
  for (let next: Promise<unknown[]> | undefined = read([after]); next !== undefined;) {
    const [last, isEnd, ids, lines, isStart] = await next as [Buffer, number, Buffer, Buffer, number]
    next = isEnd === 1 ? undefined : read([String(last)])
    next?.catch(() => {}) // it is told when its turn comes, if it does
    if (ids.length === 0) continue
    const flats = flatsOf(lines)
    yield String(ids).split(' ').map((id, i) => ({ id, flat: flats[i]!, ...(i === 0 && isStart === 1 && { isFirst: true }) }))
  }
}

/** The same as a user who may only read. */
export function entryPagesReadOnly (redis: { callBuffer (command: string, ...args: RedisArgument[]): Promise<unknown> }, stream: string, after?: string): AsyncGenerator<RawEntry[]> {
  return entryPages(async (args) => (await READ.runReadOnly(redis, [stream], [0, ...args]) as unknown[]).slice(1), after)
}

function flatsOf (lines: Buffer): string[][] {
  if (isUtf8(lines)) return JSON.parse(`[${lines.toString().replaceAll('\n', ',')}]`) as string[][]
  return lines.toString('latin1').split('\n').map((line) => {
    const bytes = Buffer.from(line, 'latin1')
    return isUtf8(bytes) ? JSON.parse(bytes.toString()) as string[] : NO_TEXT
  })
}
