import { UsageError } from '../errors.js'
import { isReply } from '../../redis/errors.js'
import type { Connection } from '../connection.js'

/** Whether the stream exists, empty or not, as far as this user may read. @throws UsageError for a key of another type */
export async function hasStream (connection: Connection, stream: string): Promise<boolean> {
  try {
    if (Number(await connection.call('XLEN', stream)) > 0) return true
    await connection.call('XINFO', 'STREAM', stream)
    return true
  } catch (error) {
    if (!isReply(error)) throw error
    if (error.message.includes('WRONGTYPE')) throw new UsageError(`${stream} is no stream (WRONGTYPE)`, undefined, { cause: error })
    if (error.message.includes('no such key')) return false
    if (error.message.startsWith('NOPERM')) return true // the next command may be allowed
    throw error
  }
}

/** A mistyped name would look like an empty log. @throws UsageError */
export async function assertStream (connection: Connection, stream: string): Promise<void> {
  if (!await hasStream(connection, stream)) throw noStream(stream)
}

export function noStream (stream: string): UsageError {
  return new UsageError(`there is no stream ${stream} here: --stream names the audit log`)
}
