import { AuditKeys } from '../../../audit/audit-keys.js'
import { reindex as makeIndexes } from '../../../audit/reindex.js'
import type { Context } from '../command.js'
import { isReply } from '../../../redis/errors.js'
import { EXIT, RedisError } from '../../errors.js'
import { Progress } from '../progress.js'
import { hasStream, noStream } from '../stream.js'
import { message, plural } from '../../text.js'

/** Makes the indexes and counters anew. */
export async function reindex ({ stream, out, connect }: Context): Promise<number> {
  const connection = await connect()
  const { index, counts } = new AuditKeys(stream)
  // after a rename it removes the old indexes
  const hasIndexes = async (): Promise<boolean> => Number(await connection.call('HLEN', index)) + Number(await connection.call('HLEN', counts)) > 0
  if (!await hasStream(connection, stream) && !await hasIndexes()) throw noStream(stream)
  const progress = new Progress(out, 'indexed', Number(await connection.call('XLEN', stream)))
  const result = await makeIndexes(connection, stream, (entries) => progress.add(entries)).catch((error: unknown) => { throw refusalOf(error) })
  progress.end()
  switch (result.state) {
    case 'taken': throw new RedisError('another reindex has begun, which goes on')
    case 'unfit': throw new RedisError(`the entry ${result.id} has an id that no index can hold: queries go on reading the stream`)
    case 'done': await out.write(`${plural(result.entries, 'event')} indexed\n`)
  }
  return EXIT.fine
}

/** Explains to a user who may only read which user is needed. */
function refusalOf (error: unknown): unknown {
  if (!isReply(error) || !/NOPERM|can't run this command/.test(error.message)) return error
  return new RedisError(`this Redis user may not write indexes, reindex needs the plugin's own one or an administrator's: ${message(error.message)}`, { cause: error })
}
