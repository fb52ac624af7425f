import type { AuditEntry } from '../../audit/event.js'
import type { Output, Style } from '../output.js'
import { Table, type Column } from './table.js'
import { jsonLine } from '../text.js'

const COLUMNS: Column<AuditEntry>[] = [
  { title: 'TIME (UTC)', cell: ({ fields }) => (fields['time'] ?? '').slice(0, 19).replace('T', ' '), min: 19, usual: 19 },
  { title: 'EVENT', cell: field('event'), min: 13, usual: 13, style: styleOfEvent },
  { title: 'EMAIL', cell: field('email'), min: 12, usual: 28 },
  { title: 'APP', cell: field('app'), min: 8, usual: 20 },
  { title: 'CODE, DETAILS', cell: details, min: 8, usual: 24 },
  { title: 'IP', cell: field('ip'), min: 9, usual: 15 },
  { title: 'USER AGENT', cell: field('user_agent'), min: 10, usual: 40, isExtra: true },
]

/** Code, count, target, author and reason: `EMAIL_MISMATCH for ben@acme.test other_user`. */
function details ({ fields: { code = '', count, reason, target, by } }: AuditEntry): string {
  const parts = [code.replace(/^TOOLJET_EMBED_/, ''), count && `x${count}`, target && `for ${target}`, by && `by ${by}`, reason]
  return parts.filter(Boolean).join(' ')
}

function field (name: string): (entry: AuditEntry) => string {
  return ({ fields }) => fields[name] ?? ''
}

function styleOfEvent ({ fields }: AuditEntry): Style | undefined {
  switch (fields['event']) {
    case 'url.minted': return 'green'
    case 'url.denied':
    case 'url.failed': return 'red'
    case 'url.limited': return 'yellow'
    case 'audit.opened':
    case 'audit.closed': return 'dim'
    default: return undefined
  }
}

/** Prints events as rows of a table, or as lines of JSON. */
export class EventWriter {
  readonly #out: Output
  readonly #table: Table<AuditEntry> | undefined

  constructor (out: Output, asJson: boolean) {
    this.#out = out
    this.#table = asJson ? undefined : new Table(COLUMNS, out)
  }

  async write (entries: readonly AuditEntry[]): Promise<void> {
    await this.#out.write(this.#table?.lines(entries) ?? entries.map(eventLine).join(''))
  }
}

/** As NDJSON. */
export function eventLine ({ id, fields }: AuditEntry): string {
  return jsonLine(Object.assign({ id }, fields, { id })) // `id` first, and not overwritten by a field of that name
}

/** Groups items into pages. */
export async function * inPages<T> (items: AsyncIterable<T>, size: number): AsyncGenerator<T[]> {
  let page: T[] = []
  for await (const item of items) {
    if (page.push(item) < size) continue
    yield page
    page = []
  }
  if (page.length > 0) yield page
}
