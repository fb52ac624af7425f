import { setTimeout as sleep } from 'node:timers/promises'
import { normalizeEmail } from '../../../access/identity.js'
import type { AuditEntry } from '../../../audit/event.js'
import { AuditReader, compareIds } from '../../../audit/reader.js'
import { fieldsOf } from '../../../audit/event.js'
import type { Context } from '../command.js'
import { isReply } from '../../../redis/errors.js'
import type { Connection } from '../../connection.js'
import { EXIT, UsageError } from '../../errors.js'
import { EventWriter } from '../event-writer.js'
import { filtersOf, isMatch } from '../filters.js'
import { wholeNumber } from '../../options.js'
import { emailProblem } from '../email-problem.js'
import { pseudonymsOf } from '../../secrets.js'
import { hasStream } from '../stream.js'

/** Shorter than the time after which a silent connection counts as lost, ms. */
const BLOCK_MS = 2000
const PAGE = 500
const RETRY_MS = 200

type StreamReply = [key: string, entries: [id: string, fields: string[]][]][] | null

/** Shows events as they come, until it is asked to end. */
export async function tail ({ given, stream, out, env, connect, interrupted }: Context): Promise<number> {
  const last = wholeNumber(given, 'last', 0) ?? 0
  const pseudonyms = await pseudonymsOf(given, env)
  const connection = await connect(true)
  const end = AbortSignal.any([interrupted(), out.gone])
  end.addEventListener('abort', () => connection.close())

  try {
    const problem = await emailProblem({ given, env, stream }, connection)
    if (problem !== undefined) throw new UsageError(problem)
    if (!await hasStream(connection, stream)) out.note(`there is no stream ${stream} here yet: waiting for it`)
    const filters = filtersOf(given)
    const reader = new AuditReader(connection, stream, pseudonyms)
    const writer = new EventWriter(out, given.json !== undefined)
    let position = await reader.lastId()
    await writer.write(await history(reader, filters, last, position))

    const email = filters.email === undefined ? undefined : normalizeEmail(filters.email)
    const emails = email === undefined ? [] : [email, ...pseudonyms?.allOf(email) ?? []]
    while (!end.aborted) {
      const entries = await next(connection, stream, position)
      await writer.write(entries.filter((entry) => isMatch(entry, filters, emails)))
      position = entries.at(-1)?.id ?? position
    }
  } catch (error) {
    if (!end.aborted) throw error
  }
  return EXIT.fine
}

/**
 * Events that are shown at the start: the newest ones, or all since a time.
 * @param upTo newer events follow by XREAD
 */
async function history (reader: AuditReader, filters: ReturnType<typeof filtersOf>, last: number, upTo: string): Promise<AuditEntry[]> {
  // queries even when nothing is to be shown: Redis checks the filters
  const limit = filters.since !== undefined && last === 0 ? Infinity : last
  const found: AuditEntry[] = []
  for await (const entry of limit === 0 ? (await reader.query(filters, { limit: 1 })).entries : reader.all(filters, 'desc', { limit })) found.unshift(entry)
  return limit === 0 ? [] : found.filter(({ id }) => compareIds(id, upTo) <= 0)
}

/** Waits for what comes after an id; waits for a Redis that is unavailable, or still loading, too. @returns nothing when nothing came */
async function next (connection: Connection, stream: string, position: string): Promise<AuditEntry[]> {
  try {
    const reply = await connection.call('XREAD', 'COUNT', PAGE, 'BLOCK', BLOCK_MS, 'STREAMS', stream, position) as StreamReply
    return (reply?.[0]?.[1] ?? []).map(([id, flat]) => ({ id, fields: fieldsOf(flat) }))
  } catch (error) {
    if (isReply(error) && !/^(?:LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|UNBLOCKED) /.test(error.message)) throw error
    await sleep(RETRY_MS)
    return []
  }
}
