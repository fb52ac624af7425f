import { AuditReader, compareIds } from '../../../audit/reader.js'
import type { Context } from '../command.js'
import type { Connection } from '../../connection.js'
import { EXIT, UsageError } from '../../errors.js'
import { inPages } from '../event-writer.js'
import { ExportFile } from '../export-file.js'
import { FORMATS } from '../export-format.js'
import { filtersOf } from '../filters.js'
import { eventId, oneOf } from '../../options.js'
import type { Output } from '../../output.js'
import { Progress } from '../progress.js'
import { emailProblem } from '../email-problem.js'
import { pseudonymsOf } from '../../secrets.js'
import { assertStream } from '../stream.js'
import { plural } from '../../text.js'

const PAGE = 500

/** Writes events as lines of JSON, to stdout or to the end of a file. */
export async function exportEvents ({ given, stream, out, env, connect }: Context): Promise<number> {
  const start = eventId(given)
  const pseudonyms = await pseudonymsOf(given, env)
  const format = FORMATS[oneOf(given, 'format', ['ndjson', 'ecs'])]
  if (given.state !== undefined && given.out === undefined) throw new UsageError('--state goes with --out: what a reader of stdout has kept is not known here')
  const filters = filtersOf(given)
  const state = given.state ?? `${given.out}.state`
  const file = given.out === undefined ? undefined : await ExportFile.open(given.out, { state, stream, filters, format })
  try {
    if (start !== undefined && file?.lastId !== undefined) throw new UsageError(`--after ${start}: the last event that was exported to ${given.out} is ${file.lastId}, after which this goes on; to begin elsewhere take another file`)
    const connection = await connect()
    const problem = await emailProblem({ given, env, stream }, connection)
    if (problem !== undefined) throw new UsageError(problem)
    const after = file?.lastId ?? start
    const reader = new AuditReader(connection, stream, pseudonyms)
    const newest = await reader.lastId()
    if (after !== undefined && compareIds(after, newest) > 0) {
      const where = file === undefined ? '--after' : `of ${state}`
      const remedy = file === undefined ? '' : `; to export this log from its beginning delete ${state} and move ${given.out} away`
      throw new UsageError(`the position ${where}, ${after}, is beyond the newest event of ${stream}, ${newest}, and new events would be left out: the log began anew, or is another one${remedy}`)
    }
    await assertStream(connection, stream)
    await warnOfLoss(connection, stream, after, out)
    const isWhole = Object.keys(filters).length === 0
    const tellOvertaken = (last: string): void => out.note(`events may be missing in this export: what came after ${last} was trimmed before it was read`)
    const entries = isWhole ? reader.entries(after, tellOvertaken) : reader.all(filters, 'asc', { after })
    const showsProgress = out.showsProgress && (file !== undefined || !out.isTerminal)
    const total = showsProgress && isWhole && after === undefined ? Number(await connection.call('XLEN', stream)) : undefined
    const progress = new Progress(out, 'exported', total)
    let count = 0
    for await (const page of inPages(showsProgress ? progress.over(entries) : entries, PAGE)) {
      const lines = page.map(format.line).join('')
      await (file === undefined ? out.write(lines) : file.append(lines, page.length, page.at(-1)!.id))
      if (out.gone.aborted) return EXIT.fine
      count += page.length
    }
    await file?.flush()
    if (showsProgress) out.note(`exported ${plural(count, 'event')}`)
    return EXIT.fine
  } finally {
    await file?.close()
  }
}

/** When the last exported event has been trimmed, newer ones may have been, too. */
async function warnOfLoss (connection: Connection, stream: string, after: string | undefined, out: Output): Promise<void> {
  if (after === undefined || /^0+(?:-0+)?$/.test(after)) return
  const [there] = await connection.xrange(stream, after, after, 'COUNT', 1)
  if (there === undefined) out.note(`events may be missing in this export: ${after}, after which it goes on, is no longer in the log, and what was trimmed after it cannot be exported any more`)
}
