import { normalizeEmail } from '../access/identity.js'
import type { RedisArgument, RedisLike } from '../redis/redis-like.js'
import { Script } from '../redis/script.js'
import { AuditKeys } from './audit-keys.js'
import { entryPagesReadOnly } from './entry-pages.js'
import { fieldsOf, type AuditEntry, type AuditEventName } from './event.js'
import { QUERIES, VERSION } from './functions.js'
import type { Pseudonyms } from './pseudonyms.js'

/** Filters of a query, named as the arguments of `tooljet_audit`. */
export interface AuditFilters {
  email?: string | undefined
  app?: string | undefined
  event?: AuditEventName | undefined
  outcome?: 'success' | 'failure' | undefined
  /** With or without its `TOOLJET_EMBED_`. */
  code?: string | undefined
  ip?: string | undefined
  url_id?: string | undefined
  /** ISO 8601, milliseconds since 1970, or how long ago: `24h`, `7d`. */
  since?: string | undefined
  /** Likewise, exclusive. */
  until?: string | undefined
}

export type AuditOrder = 'asc' | 'desc'
export type AuditGroup = 'email' | 'app' | 'event' | 'code' | 'hour'
/** One group, or a pair. */
export type AuditGrouping = AuditGroup | `${AuditGroup},${AuditGroup}`

/** Counts of one group of events. */
export interface AuditCounts {
  /** The group's value, both with a comma between for a pair; `-` where an event has no such field. */
  group: string
  events: number
  minted: number
  reused: number
  /** Denied, limited or failed. */
  refused: number
  /** Absent where the answer comes from counters, which have no users. */
  users?: Set<string>
}

/** The methods of a client that the reader needs. */
export type AuditRedis = Pick<RedisLike, 'call'> & { callBuffer (command: string, ...args: RedisArgument[]): Promise<unknown> }

const NO_MORE = '0-0'
/** The greatest id of a stream: no entry can follow. */
const GREATEST_ID = '18446744073709551615-18446744073709551615'
/** The highest `limit` of `tooljet_audit`. */
const MOST_PER_REPLY = 250
const SCRIPT = new Script(QUERIES)
const HOUR_LENGTH = '2026-01-31T08:00Z'.length

/** Reads the audit log with the queries inside Redis: as functions where they are loaded, else as a script. */
export class AuditReader {
  readonly #redis: AuditRedis
  readonly #stream: string
  readonly #pseudonyms: Pseudonyms | undefined
  readonly #onNote: ((note: string) => void) | undefined
  readonly #keys: AuditKeys
  readonly #notes = new Set<string>()
  #hasFunctions: Promise<boolean> | undefined

  /**
   * @param pseudonyms to find people by their e-mail in a log that does not name them
   * @param onNote called once with each note of a reply: that an index is incomplete, how times were rounded
   */
  constructor (redis: AuditRedis, stream: string, pseudonyms?: Pseudonyms, onNote?: (note: string) => void) {
    this.#redis = redis
    this.#stream = stream
    this.#pseudonyms = pseudonyms
    this.#onNote = onNote
    this.#keys = new AuditKeys(stream)
  }

  /**
   * One reply of `tooljet_audit`.
   * @param page `limit` from 1 to 250, 100 by default; `after` is the cursor of an earlier reply
   * @returns a cursor for the next page, `undefined` when that was all
   */
  async query (filters: AuditFilters, page: { order?: AuditOrder, limit?: number, after?: string | undefined } = {}): Promise<{ cursor: string | undefined, entries: AuditEntry[] }> {
    const [cursor, entries, ...notes] = await this.#call('tooljet_audit', { ...filters, ...page }) as [string, [id: string, fields: string[]][], ...string[]]
    this.#reportNotes(notes)
    return { cursor: cursor === NO_MORE ? undefined : cursor, entries: entries.map(entryOf) }
  }

  /** What matches, in order. @param page `limit` is any number by default; `after` is the id of an event from which to go on */
  async * all (filters: AuditFilters, order: AuditOrder, { limit = Infinity, after }: { limit?: number, after?: string | undefined } = {}): AsyncGenerator<AuditEntry> {
    let given = 0
    for await (const entry of merged(this.#emailsOf(filters).map((email) => this.#pages({ ...filters, email }, order, limit, after)), order)) {
      yield entry
      if (++given === limit) return
    }
  }

  /**
   * Counts what matches. Without any filters but times the answer comes from counters by whole hours.
   * @param options.users counts users, for which every event is looked at; with filters it is so in any case
   * @param options.looked called after each reply
   */
  async stats (by: AuditGrouping, filters: AuditFilters, { users = false, looked }: { users?: boolean, looked?: (upTo: string) => void } = {}): Promise<{ rows: AuditCounts[], total: AuditCounts }> {
    const { since: _, until: __, ...others } = filters
    const isCounted = !users && !/email/.test(by) && Object.values(others).every((filter) => filter === undefined)
    const rows = new Map<string, AuditCounts>()
    const total = noCounts('total')
    for (const email of this.#emailsOf(filters)) {
      let after: string | undefined
      do {
        const [cursor, page, sum, ...notes] = await this.#call('tooljet_audit_stats', { by, ...filters, email, after, users: isCounted ? undefined : 'list' }) as [string, unknown[][], unknown[], ...string[]]
        this.#reportNotes(notes)
        for (const row of page) {
          const group = row[0] as string
          if (!rows.has(group)) rows.set(group, noCounts(group))
          add(rows.get(group)!, row)
        }
        add(total, sum)
        after = cursor === NO_MORE ? undefined : cursor
        if (after !== undefined) looked?.(after)
      } while (after !== undefined)
    }
    return { rows: [...rows.values()].sort(byHourAndNumber(by)), total }
  }

  /** The last id that the stream generated; `0-0` for a stream that does not exist. */
  async lastId (): Promise<string> {
    try {
      const info = await this.#redis.call('XINFO', 'STREAM', this.#stream) as unknown[]
      return String(info[info.indexOf('last-generated-id') + 1])
    } catch (error) {
      if (!(error instanceof Error) || !/^(?:ERR|NOPERM)\b/.test(error.message)) throw error
    }
    const [newest] = await this.#redis.call('XREVRANGE', this.#stream, '+', '-', 'COUNT', '1') as [id: string][]
    return newest?.[0] ?? NO_MORE
  }

  /** Every entry after an id, oldest first. @param onOvertaken called with the id of an entry after which some may have been trimmed before they were read */
  async * entries (after?: string, onOvertaken?: (last: string) => void): AsyncGenerator<AuditEntry> {
    let last: string | undefined
    for await (const page of entryPagesReadOnly(this.#redis, this.#stream, after)) {
      if (page[0]!.isFirst === true && last !== undefined) onOvertaken?.(last)
      last = page.at(-1)!.id
      yield * page.map(({ id, flat }) => ({ id, fields: fieldsOf(flat) }))
    }
  }

  async * #pages (filters: AuditFilters, order: AuditOrder, limit: number, start: string | undefined): AsyncGenerator<AuditEntry> {
    if (order === 'asc' && start === GREATEST_ID) return
    let after = start
    do {
      const { cursor, entries } = await this.query(filters, { order, after, limit: Math.min(MOST_PER_REPLY, limit) })
      yield * entries
      after = cursor
    } while (after !== undefined)
  }

  /** A person's events may have the e-mail, and pseudonyms since `identity` was changed. */
  #emailsOf ({ email }: AuditFilters): (string | undefined)[] {
    if (email === undefined || this.#pseudonyms === undefined) return [email]
    return [email, ...this.#pseudonyms.allOf(normalizeEmail(email))]
  }

  #reportNotes (notes: string[]): void {
    for (const note of notes) {
      if (!this.#notes.has(note)) this.#onNote?.(note)
      this.#notes.add(note)
    }
  }

  /** Whether the functions are loaded, in this version: an older one reads indexes that no longer exist. */
  async #hasCurrentFunctions (): Promise<boolean> {
    try {
      return Number(await this.#redis.call('FCALL_RO', 'tooljet_audit_version', '0')) >= VERSION
    } catch (error) {
      if (!(error instanceof Error) || !/function not found|unknown command/i.test(error.message)) throw error
      return false
    }
  }

  /** The keys of a script call. */
  #keysFor ({ email, app }: Record<string, string | number | undefined>): string[] {
    const { stream, index, counts } = this.#keys
    const place = email !== undefined ? this.#keys.email(normalizeEmail(String(email))) : app !== undefined ? this.#keys.app(String(app)) : undefined
    return [stream, index, counts, ...place === undefined ? [] : [place.key]]
  }

  async #call (query: 'tooljet_audit' | 'tooljet_audit_stats', given: Record<string, string | number | undefined>): Promise<unknown> {
    const args = Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [name, String(value)]))
    this.#hasFunctions ??= this.#hasCurrentFunctions()
    if (await this.#hasFunctions) return this.#redis.call('FCALL_RO', query, '1', this.#stream, ...args)
    return textsOf(await SCRIPT.runReadOnly(this.#redis, this.#keysFor(given), query === 'tooljet_audit' ? args : ['stats', ...args]))
  }
}

/** A reply with texts in place of bytes. */
function textsOf (reply: unknown): unknown {
  if (Array.isArray(reply)) return reply.map(textsOf)
  return reply instanceof Buffer ? reply.toString() : reply
}

function entryOf ([id, flat]: [id: string, fields: string[]]): AuditEntry {
  return { id, fields: fieldsOf(flat) }
}

function noCounts (group: string): AuditCounts {
  return { group, events: 0, minted: 0, reused: 0, refused: 0 }
}

/** As Redis sorts them. */
function byHourAndNumber (by: AuditGrouping): (a: AuditCounts, b: AuditCounts) => number {
  const place = by.split(',').indexOf('hour')
  const hourOf = ({ group }: AuditCounts): string => (place === -1 ? '' : place === 0 ? group.slice(0, HOUR_LENGTH) : group.slice(-HOUR_LENGTH))
  return (a, b) => hourOf(a).localeCompare(hourOf(b)) || b.events - a.events || (a.group < b.group ? -1 : 1)
}

function add (counts: AuditCounts, [, ...values]: unknown[]): void {
  for (let i = 0; i < values.length; i += 2) {
    const [name, value] = [values[i], values[i + 1]]
    if (name === 'users') { // a number, not a list, when users were not requested: it cannot be added up
      if (!Array.isArray(value)) continue
      counts.users ??= new Set()
      for (const user of value as string[]) counts.users.add(user)
    } else if (name === 'events' || name === 'minted' || name === 'reused' || name === 'refused') counts[name] += Number(value)
  }
}

/** Several sorted lists as one. */
async function * merged (lists: AsyncGenerator<AuditEntry>[], order: AuditOrder): AsyncGenerator<AuditEntry> {
  const heads = await Promise.all(lists.map((list) => list.next()))
  for (;;) {
    let first: number | undefined
    for (const [i, { done, value }] of heads.entries()) {
      if (done === true) continue
      const other = first === undefined ? undefined : heads[first]!.value as AuditEntry
      if (other === undefined || (compareIds(value.id, other.id) < 0) === (order === 'asc')) first = i
    }
    if (first === undefined) return
    yield heads[first]!.value as AuditEntry
    heads[first] = await lists[first]!.next()
  }
}

/** Whether an entry can have this id. */
export function isEntryId (text: string): boolean {
  return /^\d{1,20}-\d{1,20}$/.test(text) && text.split('-').every((part) => BigInt(part) < 1n << 64n)
}

/** Ids of stream entries by age. @returns less than 0 when the first is the older one */
export function compareIds (a: string, b: string): number {
  const [ms, seq = '0'] = a.split('-') as [string, string?]
  const [otherMs, otherSeq = '0'] = b.split('-') as [string, string?]
  return compareNumbers(ms, otherMs) || compareNumbers(seq, otherSeq)
}

/** Numbers of up to 64 bits, too large for a JavaScript number. */
function compareNumbers (a: string, b: string): number {
  const difference = BigInt(a) - BigInt(b)
  return difference < 0n ? -1 : difference > 0n ? 1 : 0
}
