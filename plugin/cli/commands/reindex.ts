import { reindex as makeIndexes } from '../../audit/reindex.js'
import type { Context } from '../commands.js'
import { EXIT, RedisError } from '../errors.js'
import { Progress } from '../progress.js'
import { plural } from '../text.js'

/** Makes the indexes and counters anew. */
export async function reindex ({ stream, out, connect }: Context): Promise<number> {
  const connection = await connect()
  const progress = new Progress(out, 'indexed', Number(await connection.call('XLEN', stream)))
  const result = await makeIndexes(connection, stream, (entries) => progress.add(entries))
  progress.end()
  switch (result.state) {
    case 'taken': throw new RedisError('another reindex has begun, which goes on')
    case 'unfit': throw new RedisError(`the entry ${result.id} has an id that no index can hold: queries go on reading the stream`)
    case 'done': await out.write(`${plural(result.entries, 'event')} indexed\n`)
  }
  return EXIT.fine
}
