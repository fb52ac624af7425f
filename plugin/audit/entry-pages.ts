import { isUtf8 } from 'node:buffer'
import { Script } from '../redis/script.js'
import type { RawEntry } from './verify.js'

/** Reads a part of a stream; an entry that is larger than any event has its size only. */
export const READ = Script.of('audit/scripts/read.lua')

/** Not what Redis has: bytes that are no UTF-8 would come as other text, which may be that of an event. */
const NO_TEXT = ['no UTF-8', '']

/**
 * All entries, oldest first, in pages of bounded size, whatever is in the stream.
 * @param read runs `READ` with these arguments @returns its values after the time, strings as bytes
 */
export async function * entryPages (read: (args: readonly string[]) => Promise<unknown[]>): AsyncGenerator<RawEntry[]> {
  for (let from = ''; ;) {
    const [last, isEnd, ids, entries] = await read([from]) as [Buffer, number, Buffer[], Buffer[]]
    if (ids.length > 0) yield entries.map((json, i) => ({ id: String(ids[i]), flat: isUtf8(json) ? JSON.parse(json.toString()) as string[] : NO_TEXT }))
    if (isEnd === 1) return
    from = String(last)
  }
}
