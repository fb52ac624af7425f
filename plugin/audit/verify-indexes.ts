import { setImmediate as endOfTurn } from 'node:timers/promises'
import { MS_PER_DAY, MS_PER_HOUR } from '../durations.js'
import type { RedisArgument } from '../redis/redis-like.js'
import { Script } from '../redis/script.js'
import { counterOf } from './append.js'
import type { AuditKeys, IndexPlace } from './audit-keys.js'
import { fieldsOf, type AuditFields } from './event.js'
import { SLACK_MS } from './reindex.js'
import type { AuditProblem } from './report.js'
import type { Judge, Witness } from './verify.js'
import { REMEDY, MAX_LISTED, WrongCounters } from './wrong-counters.js'

const READ_INDEX = Script.of('audit/scripts/entries.lua', 'audit/scripts/counters.lua', 'audit/scripts/read-index.lua')

const RECORD = 14
const ID = 10
/** An id after all others. */
const NO_ID = Buffer.alloc(ID + 1, 0xff)
/** Bytes of records in one reply. */
const PAGE = 4096 * RECORD
/** How often a bucket is read again from its start when records were removed meanwhile. */
const READS = 10
/** How many records without a valid event are looked up in the stream. */
const LOOKED_FOR = 200
/** Records that are checked without a pause. */
const COUNTERS_AT_ONCE = 500
/** Most fields of counters: more than any log has, and the bound of queries. */
const MOST_COUNTERS = 200_000
const MOST_BYTES = 64 * 1024 * 1024
/** Characters of a name that are shown. */
const SHOWN = 200
/** Form of a counter, as in `counters.lua`. */
const NAME = /^[^\t\n]*\t[^\t\n]*\t[^\t\n]*$/
const COUNTER = /^\d{1,15}(?: (?:[01]\d|2[0-3]):\d{1,15}){0,24}$/
const MOST_VALUE = 600
const MOST_NAMES = 262_144

/** Runs a script that only reads, with 0 for its deadline. @returns its values after the time, strings as bytes */
export type RunScript = (script: Script, keys: readonly string[], args: readonly RedisArgument[]) => Promise<unknown[]>

/** Compares the indexes and counters with the valid events of the stream. */
export class IndexWitness implements Witness {
  readonly #keys: AuditKeys
  readonly #run: RunScript
  readonly #buckets: Map<string, Records>
  /** Events in each hour, by day, app, event and code. */
  readonly #counts = new Map<string, Float64Array>()
  #firstMs = Infinity
  /** Time of the oldest event, which need not be the first entry. */
  #since = Infinity
  #lastId = ''

  constructor (keys: AuditKeys, run: RunScript) {
    this.#keys = keys
    this.#run = run
    this.#buckets = new Map(keys.buckets.map((key) => [key, new Records()]))
  }

  add (id: string, fields: AuditFields): void {
    const { email, app, count = '1' } = fields
    const [ms, number] = partsOf(id)
    if (this.#lastId === '') this.#firstMs = ms
    this.#lastId = id
    this.#since = Math.min(this.#since, Date.parse(fields.time ?? ''))
    const index = ({ key, hash }: IndexPlace): void => this.#buckets.get(key)!.add(hash, ms, number)
    if (email !== undefined) index(this.#keys.email(email))
    if (app !== undefined) index(this.#keys.app(app))
    const [field, hour] = counterOf(fields)
    addTo(this.#counts, field, hour, Number(count))
  }

  async problems ({ isExpired, isTrimmed }: Judge): Promise<AuditProblem[]> {
    if (this.#lastId === '') return []
    const { index, counts } = this.#keys
    return [
      ...await readable(index, 'index', () => this.#wrongBuckets()),
      ...await readable(counts, 'counts', () => this.#wrongCounters({ isExpired, isTrimmed })),
    ]
  }

  #read (buckets: readonly string[], ...args: RedisArgument[]): Promise<unknown[]> {
    const { stream, index, counts } = this.#keys
    return this.#run(READ_INDEX, [stream, index, counts, ...buckets], args)
  }

  async #wrongBuckets (): Promise<AuditProblem[]> {
    const keys = [...this.#buckets.keys()]
    const [entries, newest, accounted, last, building, broken, , ...lengths] = (await this.#read(keys, 'state')).map(String)
    const incomplete = building !== ''
      ? 'are being made anew, or that was interrupted'
      : entries !== accounted
        ? `have ${accounted} of ${entries} entries`
        : broken !== ''
          ? 'stopped when the stream was not as they had it'
          : last !== newest && entries !== '0' ? `end with ${last || 'nothing'}, and the stream with ${newest}` : ''
    if (incomplete !== '') return [{ kind: 'index', detail: `the indexes ${incomplete}, and queries read the stream: ${REMEDY}` }]
    const problems: AuditProblem[] = []
    for (const [i, key] of keys.entries()) {
      const [length, expected] = [lengths[2 * i], lengths[2 * i + 1]]
      const wrong = length === expected ? await this.#wrongIn(key) : length === '-1' ? 'is of another type' : `has ${length} bytes in place of ${expected}`
      if (wrong !== '') problems.push({ kind: 'index', detail: `${key} ${wrong}: ${REMEDY}` })
    }
    return problems
  }

  /** @returns the problem of a bucket; '' without one */
  async #wrongIn (key: string): Promise<string> {
    for (let i = 0; i < READS; i++) {
      const wrong = await this.#readThrough(key)
      if (wrong !== undefined) return wrong
    }
    return 'changes all the time'
  }

  /** @returns nothing when records were removed from the bucket meanwhile */
  async #readThrough (key: string): Promise<string | undefined> {
    const expected = this.#buckets.get(key)!
    const [first, last] = [idBytes(this.#firstMs, 0), idBytes(...partsOf(this.#lastId))]
    const unknown: string[] = []
    let missing = 0
    let at = 0
    let previous = idBytes(0, 0)
    for (let from = 0, isOver = false; !isOver; from += PAGE) {
      const [oldest, newest, isMoved, page] = await this.#read([key], 'records', from, idText(previous)) as [Buffer, Buffer, unknown, Buffer]
      if (Number(isMoved) === 1) return undefined
      const [start, end] = [idBytes(...partsOf(String(oldest))), idBytes(...partsOf(String(newest)))] // older records are of entries that were trimmed meanwhile
      const skipTo = (id: Buffer): void => {
        for (; at < expected.count && expected.id(at).compare(id) < 0; at++) if (expected.id(at).compare(start) >= 0) missing++
      }
      isOver = page.length < PAGE
      if (page.length % RECORD !== 0) return `has ${from + page.length} bytes, which are no whole records`
      const isAsExpected = page.length > 0 && page.compare(previous, 0, ID, 4, RECORD) > 0 && page.equals(expected.records(at, page.length))
      if (isAsExpected) {
        at += page.length / RECORD
        previous = page.subarray(-ID)
      }
      for (let place = isAsExpected ? page.length : 0; place < page.length; place += RECORD) {
        const id = page.subarray(place + 4, place + RECORD)
        if (id.compare(previous) <= 0) return 'is out of order'
        if (id.compare(end) > 0) return `has the record ${idText(id)}, after the newest entry`
        previous = id
        if (id.compare(last) > 0 || id.compare(first) < 0) continue
        skipTo(id)
        if (at < expected.count && page.compare(expected.record(at), 0, RECORD, place, place + RECORD) === 0) at++
        else if (unknown.length < LOOKED_FOR) unknown.push(idText(id))
      }
      if (isOver) skipTo(NO_ID)
    }
    if (missing > 0) return `lacks ${missing} of ${expected.count} events`
    // a reindex makes records of entries without a valid mac, too
    const absent = unknown.length === 0 ? 0 : Number((await this.#read([key], 'absent', ...unknown))[0])
    return absent > 0 ? `has ${absent} records of no entry` : ''
  }

  async #wrongCounters ({ isExpired, isTrimmed }: Judge): Promise<AuditProblem[]> {
    const expected = new Map([...this.#counts].map(([field, hours]) => [toBytes(field), hours]))
    const found = await this.#counters()
    if (found === undefined) return [{ kind: 'counts', detail: `${this.#keys.counts} has more than any log's counters take: delete it, then ${REMEDY}` }]
    const { values, lists, others } = found
    const newer = await this.#newerCounts() // read after the counters, which may have these events already
    const [, , , , , , removed] = await this.#read([], 'state')
    const wholeFrom = Number(removed) === 0 ? -Infinity : this.#firstMs + SLACK_MS
    // entries that are gone other than by trimming do not excuse a counter: whoever rewrote the log may have made it
    const mayLack = (hourMs: number): boolean => hourMs < wholeFrom && isTrimmed(Math.min(hourMs, this.#since))
    // a counter is dropped a day after its last events may be, which may not be trimmed yet
    const isDropped = (field: string): boolean => isExpired(Date.parse(field.slice(0, 10)) + MS_PER_DAY)
    const wrong = new WrongCounters(this.#keys.counts)
    for (const field of others.list) wrong.add(`the field ${printable(field)} of ${this.#keys.counts} is no counter`)
    wrong.count += others.count - others.list.length
    for await (const field of inTurns(new Set([...expected.keys(), ...values.keys()]))) {
      const value = values.get(field)
      if (value === undefined && isDropped(field)) continue
      const wrongHours = this.#wrongHours(field, value ?? '0', { expected: expected.get(field), newer: newer.get(field), mayLack })
      if (wrongHours !== '') wrong.add(`${counter(field)} ${wrongHours}`)
    }
    const days = new Map<string, Set<string>>()
    for await (const field of inTurns(values.keys())) nameIn(days, field)
    for await (const day of inTurns(new Set([...lists.keys(), ...days.keys()]), 1)) {
      const [names, there] = [namesIn(lists.get(day) ?? ''), days.get(day) ?? new Set<string>()]
      if (names === undefined) wrong.add(`the list of the counters of ${day} is damaged`)
      else if (!isDropped(day)) for await (const detail of this.#apart(day, [...difference(names, there), ...difference(there, names)])) wrong.add(detail)
    }
    return wrong.problems
  }

  /** Which of these counters of a day are there and not in its list, or the other way round; others may just have been made. */
  async * #apart (day: string, names: readonly string[]): AsyncGenerator<string> {
    for (let i = 0; i < names.length; i += COUNTERS_AT_ONCE) {
      const asked = names.slice(i, i + COUNTERS_AT_ONCE)
      const [[list, ...values]] = await this.#read([], 'values', day, ...asked.map((name) => Buffer.from(`${day}\t${name}`, 'latin1'))) as [[Buffer | null, ...(Buffer | null)[]]]
      const listed = namesIn(list?.toString('latin1') ?? '') ?? new Set<string>()
      for (const [n, name] of asked.entries()) {
        if (listed.has(name) === (values[n] !== null)) continue
        yield `${counter(`${day}\t${name}`)} ${listed.has(name) ? 'is gone, and in the list of its day' : 'is not among those of its day'}`
      }
    }
  }

  /**
   * Of the hours that are wholly in the stream; of others only that all which is there was counted.
   * @param those.mayLack whether events may have been trimmed of an hour that begins then
   */
  #wrongHours (field: string, value: string, { expected, newer, mayLack }: { expected: Float64Array | undefined, newer: Float64Array | undefined, mayLack: (hourMs: number) => boolean }): string {
    const counted = hoursOf(value)
    if (counted === undefined) return `is damaged (${printable(value)})`
    const day = Date.parse(field.slice(0, 10))
    const wrong: string[] = []
    for (let hour = 0; hour < 24; hour++) {
      const [count, least] = [counted[hour]!, expected?.[hour] ?? 0]
      const isTooMuch = count > least + (newer?.[hour] ?? 0) && !mayLack(day + hour * MS_PER_HOUR)
      if (count < least || isTooMuch) wrong.push(`has ${count} in place of ${least} for the hour from ${String(hour).padStart(2, '0')}:00 UTC`)
    }
    return wrong.length > 1 ? `${wrong[0]}, and ${wrong.length - 1} more are wrong` : wrong[0] ?? ''
  }

  /**
   * Names as bytes, one character for each: two of them are never the same for their looks.
   * @returns nothing where there is more than can be, which is not kept
   */
  async #counters (): Promise<{ values: Map<string, string>, lists: Map<string, string>, others: { list: string[], count: number } } | undefined> {
    const values = new Map<string, string>()
    const lists = new Map<string, string>()
    const others = { list: [] as string[], count: 0 }
    let bytes = 0
    for (let cursor = '0'; ;) {
      const [next, page] = await this.#read([], 'counters', cursor) as [Buffer, Buffer[]]
      for (let i = 0; i < page.length; i += 2) {
        const [field, value] = [page[i]!.toString('latin1'), page[i + 1]!.toString('latin1')]
        if (!isDay(field.slice(0, 10))) note(field)
        else if (field.length === 10) lists.set(field, value)
        else if (field[10] === '\t' && NAME.test(field.slice(11))) values.set(field, value)
        else note(field)
        bytes += field.length + value.length
      }
      if (values.size > MOST_COUNTERS || bytes > MOST_BYTES) return undefined
      cursor = String(next)
      if (cursor === '0') return { values, lists, others }
    }
    function note (field: string): void {
      others.count++
      if (others.list.length < MAX_LISTED) others.list.push(field.slice(0, SHOWN + 1))
    }
  }

  async #newerCounts (): Promise<Map<string, Float64Array>> {
    const counts = new Map<string, Float64Array>()
    for (let after = this.#lastId; ;) {
      const [entries] = await this.#read([], 'newer', after) as [[id: Buffer, flat: Buffer[]][]]
      for (const [, flat] of entries) {
        const fields = fieldsOf(flat.map(String))
        const [field, hour] = counterOf(fields)
        addTo(counts, toBytes(field), hour, Number(/^\d{1,15}$/.exec(fields['count'] ?? '1') ?? 1))
      }
      if (entries.length === 0) return counts
      after = String(entries.at(-1)![0])
    }
  }
}

/** @param what reads a key; where that is of another type it is the problem */
async function readable (key: string, kind: AuditProblem['kind'], what: () => Promise<AuditProblem[]>): Promise<AuditProblem[]> {
  try {
    return await what()
  } catch (error) {
    const refusal = error instanceof Error && error.cause instanceof Error ? error.cause : error // as the plugin has it, and the command
    if (!(refusal instanceof Error) || !refusal.message.includes('WRONGTYPE')) throw error
    return [{ kind, detail: `${key} is of another type: ${REMEDY}` }]
  }
}

function addTo (counts: Map<string, Float64Array>, field: string, hour: string, count: number): void {
  let hours = counts.get(field)
  if (hours === undefined) counts.set(field, hours = new Float64Array(24))
  hours[Number(hour)]! += count
}

/** @param value like `15 08:3 14:12` @returns nothing where it has another form */
function hoursOf (value: string): Float64Array | undefined {
  if (value.length > MOST_VALUE || !COUNTER.test(value)) return undefined
  const [total, ...counted] = value.split(' ')
  const hours = new Float64Array(24)
  const seen = new Set<string>()
  for (const pair of counted) {
    const [hour, count] = pair.split(':')
    hours[Number(hour)] = Number(count)
    seen.add(hour!)
  }
  const isSound = seen.size === counted.length && hours.reduce((sum, count) => sum + count, 0) === Number(total)
  return isSound ? hours : undefined
}

/** @param list names of counters in lines @returns nothing where it has another form */
function namesIn (list: string): Set<string> | undefined {
  if (list === '') return new Set()
  const lines = list.split('\n')
  const names = new Set(lines.slice(0, -1))
  const isSound = list.length <= MOST_NAMES && lines.at(-1) === '' && names.size === lines.length - 1 && [...names].every((name) => NAME.test(name))
  return isSound ? names : undefined
}

function nameIn (days: Map<string, Set<string>>, field: string): void {
  const day = field.slice(0, 10)
  if (!days.has(day)) days.set(day, new Set())
  days.get(day)!.add(field.slice(11))
}

/** Lets other work of the event loop run. */
async function * inTurns<T> (all: Iterable<T>, atOnce = COUNTERS_AT_ONCE): AsyncGenerator<T> {
  let given = 0
  for (const one of all) {
    if (++given % atOnce === 0) await endOfTurn()
    yield one
  }
}

function difference (some: Set<string>, others: Set<string>): string[] {
  return [...some].filter((one) => !others.has(one))
}

/** Like 2026-01-31, and there is such a day. */
function isDay (text: string): boolean {
  if (!/^\d{4}-\d\d-\d\d$/.test(text)) return false
  const ms = Date.parse(text)
  return !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(text)
}

function toBytes (text: string): string {
  return Buffer.from(text).toString('latin1')
}

function toText (bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString()
}

/** A text of any length, shortened for people. */
function printable (bytes: string): string {
  const text = toText(bytes).replaceAll('\t', ' ')
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text
}

function counter (field: string): string {
  return `the counter of ${printable(field)}`
}

/** The records that a bucket must have, in its own form. */
class Records {
  #bytes = Buffer.allocUnsafe(64 * RECORD)
  count = 0

  add (hash: number, ms: number, number: number): void {
    const at = this.count++ * RECORD
    if (at === this.#bytes.length) this.#bytes = Buffer.concat([this.#bytes], 2 * at)
    this.#bytes.writeUInt32BE(hash, at)
    writeId(this.#bytes, at + 4, ms, number)
  }

  /** @returns fewer bytes at the end */
  records (from: number, bytes: number): Buffer {
    return this.#bytes.subarray(from * RECORD, Math.min(this.count * RECORD, from * RECORD + bytes))
  }

  record (i: number): Buffer {
    return this.#bytes.subarray(i * RECORD, (i + 1) * RECORD)
  }

  id (i: number): Buffer {
    return this.#bytes.subarray(i * RECORD + 4, (i + 1) * RECORD)
  }
}

function partsOf (id: string): [ms: number, number: number] {
  const dash = id.indexOf('-')
  return dash === -1 ? [0, 0] : [Number(id.slice(0, dash)), Number(id.slice(dash + 1))]
}

/** An id as in a record: the bytes of an older one come first. One that is too great for a record is like none of them. */
function idBytes (ms: number, number: number): Buffer {
  const bytes = Buffer.alloc(ID)
  writeId(bytes, 0, ms, number)
  return bytes
}

function writeId (bytes: Buffer, at: number, ms: number, number: number): void {
  bytes.writeUIntBE(Math.min(ms, 2 ** 48 - 1), at, 6)
  bytes.writeUInt32BE(Math.min(number, 2 ** 32 - 1), at + 6)
}

function idText (bytes: Buffer): string {
  return `${bytes.readUIntBE(0, 6)}-${bytes.readUInt32BE(6)}`
}
