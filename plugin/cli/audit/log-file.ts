import { createReadStream } from 'node:fs'
import { pipeline } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { fileError } from '../errors.js'

const GZIP = Buffer.from([0x1f, 0x8b])

/** Reads a log file, gzip or not, which its first bytes show. @throws UsageError when it cannot be read */
export async function readLog (file: string, take: (chunks: AsyncIterable<Buffer>) => Promise<void>): Promise<void> {
  try {
    await take(unpacked(createReadStream(file)))
  } catch (error) {
    throw fileError(`--log ${file}`, error)
  }
}

async function * unpacked (file: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const chunks = file[Symbol.asyncIterator]()
  const { value: first, done } = await chunks.next()
  if (done === true) return
  async function * all (): AsyncGenerator<Buffer> {
    yield first
    yield * { [Symbol.asyncIterator]: () => chunks }
  }
  if (!first.subarray(0, GZIP.length).equals(GZIP)) return yield * all()
  const gunzip = createGunzip()
  pipeline(all(), gunzip, () => {}) // an error ends the stream, and reaches its reader
  yield * gunzip
}
