import { AuditReader, type AuditOrder } from '../../../audit/reader.js'
import type { Context } from '../command.js'
import { EXIT, UsageError } from '../../errors.js'
import { EventWriter, inPages } from '../event-writer.js'
import { filtersOf } from '../filters.js'
import { eventId, wholeNumber } from '../../options.js'
import { emailProblem } from '../email-problem.js'
import { pseudonymsOf } from '../../secrets.js'
import { assertStream } from '../stream.js'
import { grouped } from '../../text.js'

const DEFAULT_LIMIT = 100
/** Rows that are formatted and written at once. */
const PAGE = 250

/** Shows the events that match. */
export async function query ({ given, stream, out, env, connect }: Context): Promise<number> {
  const limit = wholeNumber(given, 'limit', 1) ?? DEFAULT_LIMIT
  const after = eventId(given)
  const pseudonyms = await pseudonymsOf(given, env)
  const connection = await connect()
  await assertStream(connection, stream)
  const problem = await emailProblem({ given, env, stream }, connection)
  const reader = new AuditReader(connection, stream, pseudonyms, (note) => out.note(note))
  const writer = new EventWriter(out, given.json !== undefined)
  const filters = filtersOf(given)
  const order = (given.order ?? 'desc') as AuditOrder
  let count = 0
  let last: string | undefined
  for await (const page of inPages(reader.all(filters, order, { limit, after }), PAGE)) {
    await writer.write(page)
    if (out.gone.aborted) return EXIT.fine
    count += page.length
    last = page.at(-1)!.id
  }
  if (count === limit && (await reader.all(filters, order, { limit: 1, after: last }).next()).done !== true) {
    out.note(`more events match: --limit N for more than ${grouped(limit)}, or --after ${last}`)
  }
  if (problem !== undefined) {
    if (count === 0) throw new UsageError(problem)
    out.note(problem)
  }
  if (count === 0 && given.json === undefined) out.note(`no event in ${stream} matches`)
  return EXIT.fine
}
