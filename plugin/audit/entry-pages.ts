import { isUtf8 } from 'node:buffer'
import type { RedisArgument } from '../redis/redis-like.js'
import { Script } from '../redis/script.js'
import type { RawEntry } from './verify.js'

/** Reads a part of a stream; of an entry that is larger than any event it returns the size only. */
export const READ = Script.of('audit/scripts/entries.lua', 'audit/scripts/read.lua')

/** Stands for an entry that is not UTF-8: decoded, it could look like an event. */
const NO_TEXT = ['no UTF-8', '']

/**
 * All entries, oldest first, in pages of bounded size. The next page is read while the caller handles the one before.
 * @param read runs `READ` with these arguments @returns its values after the time, strings as bytes
 * @param after id after which to begin; '': the start
 */
export async function * entryPages (read: (args: readonly string[]) => Promise<unknown[]>, after = ''): AsyncGenerator<RawEntry[]> {
  for (let next: Promise<unknown[]> | undefined = read([after]); next !== undefined;) {
    const [last, isEnd, ids, lines, isStart] = await next as [Buffer, number, Buffer, Buffer, number]
    next = isEnd === 1 ? undefined : read([String(last)])
    next?.catch(() => {}) // awaited in the next round, if there is one
    if (ids.length === 0) continue
    const flats = flatsOf(lines)
    yield String(ids).split(' ').map((id, i) => ({ id, flat: flats[i]!, ...(i === 0 && isStart === 1 && { isFirst: true }) }))
  }
}

/** The same with the commands of a user who may only read. */
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
