import { AuditReader, type AuditCounts, type AuditGrouping } from '../../audit/reader.js'
import type { Context } from '../commands.js'
import { EXIT } from '../errors.js'
import { filtersOf } from '../filters.js'
import { pseudonymsOf } from '../secrets.js'
import { Table, type Column } from '../table.js'
import { grouped, jsonLine } from '../text.js'

/** Counts the events that match. */
export async function stats ({ given, stream, out, env, connect }: Context): Promise<number> {
  const by = (given.by ?? 'event') as AuditGrouping
  const pseudonyms = await pseudonymsOf(given, env)
  const reader = new AuditReader(await connect(), stream, pseudonyms)
  const { rows, total } = await reader.stats(by, filtersOf(given), (upTo) => out.progress(`counted up to ${timeOf(upTo)}`))
  out.progress()
  if (given.json !== undefined) {
    await out.write([...rows.map((row) => jsonLine({ [by]: row.group, ...countsOf(row) })), jsonLine({ total: true, ...countsOf(total) })].join(''))
    return EXIT.fine
  }
  await out.write(new Table(columnsFor(by), out).lines([...rows, { ...total, group: 'total' }]))
  return EXIT.fine
}

/** @param id of an event: it begins with the milliseconds since 1970 */
function timeOf (id: string): string {
  return new Date(parseInt(id, 10)).toISOString().slice(0, 16).replace('T', ' ')
}

function countsOf ({ events, minted, reused, refused, users, ...counts }: AuditCounts) {
  const rate = reuseRate({ ...counts, events, minted, reused, refused, users })
  return { events, minted, reused, refused, ...(rate !== undefined && { reuse_rate: Number(rate.toFixed(3)) }), users: users.size }
}

/** Which part of the URLs that were given was reused; nothing when none was given. */
function reuseRate ({ minted, reused }: AuditCounts): number | undefined {
  return minted + reused === 0 ? undefined : reused / (minted + reused)
}

function columnsFor (by: AuditGrouping): Column<AuditCounts>[] {
  const count = (title: string, of: (counts: AuditCounts) => number): Column<AuditCounts> => ({ title, cell: (counts) => grouped(of(counts)), alignRight: true })
  return [
    { title: by.toUpperCase(), cell: ({ group }) => (by === 'code' ? group.replace(/^TOOLJET_EMBED_/, '') : group), min: 12 },
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
    count('USERS', ({ users }) => users.size),
  ]
}
