import { Redis } from 'ioredis'
import { compareIds } from './audit-tail.js'

/** An event as the page gets it: the id in the stream, and the fields as they are there. */
export interface AuditEntry {
  id: string
  fields: Record<string, string>
}

/** Answers of one minute. */
export interface MinuteCounts {
  /** Its start, in milliseconds since 1970. */
  at: number
  minted: number
  reused: number
  refused: number
  /** How many were refused with each code. */
  codes: Record<string, number>
}

/** Where the page's events come from. */
export interface AuditSource {
  /**
   * The newest events that match.
   * @param after where to go on, from the answer before
   * @returns a cursor to go on from: none when that was all. With a filter for rare things there may be a cursor and no event yet
   */
  query (filters: Record<string, string>, limit: number, after?: string): Promise<{ entries: AuditEntry[], cursor: string | undefined }>
  /** What comes after an id, oldest first: up to a `PAGE`. */
  after (id: string): Promise<AuditEntry[]>
  /** Id of the newest event. */
  tip (): Promise<string>
  /**
   * Counts the last minutes, the newest first.
   * @returns `after`: exactly what comes after this id is not counted. `isComplete`: false when so much happened that minutes are missing
   */
  summary (): Promise<{ now: number, after: string, minutes: MinuteCounts[], isComplete: boolean }>
  close (): void
}

type Flat = [id: string, fields: string[]]
type Row = [group: string, ...counts: (string | number)[]]

const MINUTES = 30
/** Events in one read of what is new. */
export const PAGE = 250

const MINUTE_MS = 60_000
const NO_MORE = '0-0'
/** Calls of a function for one answer: each looks at 250 events at the most. */
const QUERY_CALLS = 20
const SUMMARY_CALLS = 400

/** The audit log, read with the functions that the plugin loads into Redis 7: what `redis-cli FCALL_RO` does, too. */
export class AuditLog implements AuditSource {
  readonly #redis: Redis

  constructor (url: string, readonly stream: string) {
    this.#redis = new Redis(url, {
      connectionName: 'portal-audit-log',
      lazyConnect: true,
      commandTimeout: 3000,
      maxRetriesPerRequest: 1,
      retryStrategy: (times) => Math.min(times * 100, 1000),
    })
    this.#redis.on('error', () => { /* whoever asks is told */ })
  }

  close (): void {
    this.#redis.disconnect()
  }

  async query (filters: Record<string, string>, limit: number, after?: string): Promise<{ entries: AuditEntry[], cursor: string | undefined }> {
    const args = Object.entries(filters).flat()
    const entries: AuditEntry[] = []
    let cursor = after
    for (let call = 0; call < QUERY_CALLS && entries.length < limit; call++) {
      const from = cursor === undefined ? [] : ['after', cursor]
      const [next, page] = await this.#call<[string, Flat[]]>('tooljet_audit', ...args, 'limit', limit - entries.length, ...from)
      entries.push(...page.map(entryOf))
      cursor = next === NO_MORE ? undefined : next
      if (cursor === undefined) break
    }
    return { entries, cursor }
  }

  async after (id: string): Promise<AuditEntry[]> {
    return (await this.#redis.xrange(this.stream, `(${id}`, '+', 'COUNT', PAGE)).map(entryOf)
  }

  async tip (): Promise<string> {
    const [newest] = await this.#redis.xrevrange(this.stream, '+', '-', 'COUNT', 1)
    return newest?.[0] ?? NO_MORE
  }

  async summary (): Promise<{ now: number, after: string, minutes: MinuteCounts[], isComplete: boolean }> {
    const [seconds] = await this.#redis.time()
    const now = Number(seconds) * 1000
    // no event comes any more with an older millisecond than the newest one has
    const end = Number((await this.tip()).split('-')[0])
    const after = end === 0 ? NO_MORE : `${end - 1}-18446744073709551615`

    const minutes: MinuteCounts[] = []
    const budget = { calls: SUMMARY_CALLS }
    const newest = now - now % MINUTE_MS
    for (let at = newest; at > newest - MINUTES * MINUTE_MS; at -= MINUTE_MS) {
      if (at >= end) continue
      const minute = await this.#minute(at, Math.min(at + MINUTE_MS, end), budget)
      if (budget.calls === 0) return { now, after, minutes, isComplete: false }
      minutes.push(minute)
    }
    return { now, after, minutes, isComplete: true }
  }

  async #minute (since: number, until: number, budget: { calls: number }): Promise<MinuteCounts> {
    const minute: MinuteCounts = { at: since, minted: 0, reused: 0, refused: 0, codes: {} }
    for (const counts of await this.#stats('event', since, until, budget)) {
      minute.minted += counts.minted
      minute.reused += counts.reused
      minute.refused += counts.refused
    }
    if (minute.refused === 0) return minute
    for (const { group, refused } of await this.#stats('code', since, until, budget)) {
      if (refused > 0) minute.codes[group] = (minute.codes[group] ?? 0) + refused
    }
    return minute
  }

  async #stats (by: 'event' | 'code', since: number, until: number, budget: { calls: number }) {
    const rows: Row[] = []
    let cursor = NO_MORE
    while (budget.calls > 0) {
      budget.calls--
      const [next, page] = await this.#call<[string, Row[]]>('tooljet_audit_stats', 'by', by, 'since', since, 'until', until, 'after', cursor)
      rows.push(...page)
      cursor = next
      if (cursor === NO_MORE) break
    }
    return rows.map(([group, ...counts]) => {
      const countOf = (name: string): number => Number(counts[counts.indexOf(name) + 1])
      return { group, minted: countOf('minted'), reused: countOf('reused'), refused: countOf('refused') }
    })
  }

  async #call<Reply> (query: 'tooljet_audit' | 'tooljet_audit_stats', ...args: (string | number)[]): Promise<Reply> {
    return await this.#redis.fcall_ro(query, 1, this.stream, ...args) as Reply
  }
}

function entryOf ([id, flat]: Flat): AuditEntry {
  const fields: Record<string, string> = {}
  for (let i = 0; i < flat.length; i += 2) fields[flat[i]!] = flat[i + 1]!
  return { id, fields }
}

/** The older one of two ids. */
export function olderOf (a: string, b: string): string {
  return compareIds(a, b) < 0 ? a : b
}
