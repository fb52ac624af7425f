import { isoTime } from '../../../audit/event.js'
import { AuditReader, type AuditCounts, type AuditGroup, type AuditGrouping } from '../../../audit/reader.js'
import type { Context } from '../command.js'
import { EXIT, UsageError } from '../../errors.js'
import { filtersOf } from '../filters.js'
import { emailProblem } from '../email-problem.js'
import { pseudonymsOf } from '../../secrets.js'
import { assertStream } from '../stream.js'
import { Table, type Column } from '../table.js'
import { grouped, jsonLine } from '../../text.js'

/** Counts the events that match. */
export async function stats ({ given, stream, out, env, connect }: Context): Promise<number> {
  const by = (given.by ?? 'event') as AuditGrouping
  const pseudonyms = await pseudonymsOf(given, env)
  const connection = await connect()
  await assertStream(connection, stream)
  const problem = await emailProblem({ given, env, stream }, connection)
  const reader = new AuditReader(connection, stream, pseudonyms, (note) => out.note(note))
  const { rows, total } = await reader.stats(by, filtersOf(given), { users: given.users !== undefined, looked: (upTo) => out.progress(`counted up to ${timeOf(upTo)}`) })
  out.progress()
  if (problem !== undefined) {
    if (total.events === 0) throw new UsageError(problem)
    out.note(problem)
  }
  if (given.json !== undefined) {
    await out.write([...rows.map((row) => jsonLine({ ...groupsOf(by, row), ...countsOf(row) })), jsonLine({ total: true, ...countsOf(total) })].join(''))
    return EXIT.fine
  }
  await out.write(new Table(columnsFor(by, total.users !== undefined), out).lines([...rows, { ...total, group: 'total' }]))
  return EXIT.fine
}

/** @param id of an event: it begins with the milliseconds since 1970 */
function timeOf (id: string): string {
  return isoTime(parseInt(id, 10)).slice(0, 16).replace('T', ' ')
}

/** The groups of a row, by name. Only an app or an e-mail can have a comma in it. */
function groupsOf (by: AuditGrouping, { group }: AuditCounts): Partial<Record<AuditGroup, string>> {
  const [first, second] = by.split(',') as [AuditGroup, AuditGroup?]
  if (second === undefined) return { [first]: group }
  const at = first === 'app' ? group.lastIndexOf(',') : group.indexOf(',')
  return at === -1 ? { [first]: group } : { [first]: group.slice(0, at), [second]: group.slice(at + 1) }
}

function countsOf (counts: AuditCounts) {
  const { events, minted, reused, refused, users } = counts
  const rate = reuseRate(counts)
  return { events, minted, reused, refused, ...(rate !== undefined && { reuse_rate: Number(rate.toFixed(3)) }), ...(users !== undefined && { users: users.size }) }
}

/** Share of reused URLs; nothing when there was no URL. */
function reuseRate ({ minted, reused }: AuditCounts): number | undefined {
  return minted + reused === 0 ? undefined : reused / (minted + reused)
}

function columnsFor (by: AuditGrouping, hasUsers: boolean): Column<AuditCounts>[] {
  const count = (title: string, of: (counts: AuditCounts) => number): Column<AuditCounts> => ({ title, cell: (counts) => grouped(of(counts)), alignRight: true })
  return [
    ...(by.split(',') as AuditGroup[]).map((name): Column<AuditCounts> => ({
      title: name.toUpperCase(),
      cell: (row) => (groupsOf(by, row)[name] ?? '').replace(name === 'code' ? /^TOOLJET_EMBED_/ : '', ''),
      min: 12,
    })),
    count('EVENTS', ({ events }) => events),
    count('MINTED', ({ minted }) => minted),
    count('REUSED', ({ reused }) => reused),
    count('REFUSED', ({ refused }) => refused),
    {
      title: 'REUSE RATE',
      cell: (counts) => {
        const rate = reuseRate(counts)
        return rate === undefined ? '' : `${(rate * 100).toFixed(1)} %`
      },
      alignRight: true,
    },
    ...hasUsers ? [count('USERS', ({ users }) => users?.size ?? 0)] : [],
  ]
}
