import { setImmediate as endOfTurn } from 'node:timers/promises'
import { Script } from '../redis/script.js'
import { counterOf } from './append.js'
import type { AuditKeys, IndexPlace } from './audit-keys.js'
import { fieldsOf, type AuditFields } from './event.js'
import type { AuditProblem, Judge, Witness } from './verify.js'

const READ_INDEX = Script.of('audit/scripts/read-index.lua')

const REMEDY = 'run tooljet-embed-audit reindex'
const RECORD = 14
const ID = 10
/** After every id. */
const NO_ID = Buffer.alloc(ID + 1, 0xff)
const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
/** Between the clocks of events and of Redis. */
const CLOCK_SLACK_MS = 60_000
/** So many records of no valid event are looked for in the stream. */
const LOOKED_FOR = 200
/** Without a pause. */
const COUNTERS_AT_ONCE = 500

/** Runs a script that only reads, with 0 for its deadline. @returns its values after the time, strings as bytes */
export type RunScript = (script: Script, keys: readonly string[], args: readonly (string | number)[]) => Promise<unknown[]>

/** Holds the indexes and counters against the valid events of the stream. */
export class IndexWitness implements Witness {
  readonly #keys: AuditKeys
  readonly #run: RunScript
  readonly #buckets: Map<string, Records>
  /** By day, app, event and code: how many there are in each hour. */
  readonly #counts = new Map<string, Float64Array>()
  #firstMs = Infinity
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
    const bytes = idBytes(ms, number)
    const index = ({ key, hash }: IndexPlace): void => this.#buckets.get(key)!.add(hash, bytes)
    if (email !== undefined) index(this.#keys.email(email))
    if (app !== undefined) index(this.#keys.app(app))
    const [field, hour] = counterOf(fields)
    addTo(this.#counts, field, hour, Number(count))
  }

  async problems ({ isExpired }: Judge): Promise<AuditProblem[]> {
    if (this.#lastId === '') return []
    return [...await this.#wrongBuckets(), ...await this.#wrongCounters(isExpired)]
  }

  #read (buckets: readonly string[], ...args: string[]): Promise<unknown[]> {
    const { stream, index, counts } = this.#keys
    return this.#run(READ_INDEX, [stream, index, counts, ...buckets], args)
  }

  async #wrongBuckets (): Promise<AuditProblem[]> {
    const keys = [...this.#buckets.keys()]
    const [entries, accounted, building, ...lengths] = (await this.#read(keys, 'state')).map(String)
    if (building !== '') return [{ kind: 'index', detail: `the indexes are being made anew, or that was interrupted, and queries read the stream: ${REMEDY}` }]
    if (entries !== accounted) return [{ kind: 'index', detail: `the indexes have ${accounted} of ${entries} entries, and queries read the stream: ${REMEDY}` }]
    const problems: AuditProblem[] = []
    for (const [i, key] of keys.entries()) {
      const [length, expected] = [lengths[2 * i], lengths[2 * i + 1]]
      const wrong = length === expected ? await this.#wrongIn(key) : length === '-1' ? 'is of another type' : `has ${length} bytes in place of ${expected}`
      if (wrong !== '') problems.push({ kind: 'index', detail: `${key} ${wrong}: ${REMEDY}` })
    }
    return problems
  }

  /** @returns what is wrong with a bucket; '' when nothing is */
  async #wrongIn (key: string): Promise<string> {
    const expected = this.#buckets.get(key)!
    const [first, last] = [idBytes(this.#firstMs, 0), idBytes(...partsOf(this.#lastId))]
    const unknown: string[] = []
    let missing = 0
    let at = 0
    let previous = idBytes(0, 0)
    for (let isOver = false; !isOver;) {
      const [oldest, page] = await this.#read([key], 'records', idText(previous)) as [Buffer, Buffer]
      const start = idBytes(...partsOf(String(oldest) || '0-0')) // what is older was trimmed meanwhile
      const skipTo = (id: Buffer): void => {
        for (; at < expected.count && expected.id(at).compare(id) < 0; at++) if (expected.id(at).compare(start) >= 0) missing++
      }
      isOver = page.length < RECORD
      for (let place = 0; place + RECORD <= page.length && !isOver; place += RECORD) {
        const id = page.subarray(place + 4, place + RECORD)
        if (id.compare(previous) <= 0) return 'is out of order'
        previous = id
        isOver = id.compare(last) > 0
        if (isOver || id.compare(first) < 0) continue
        skipTo(id)
        if (at < expected.count && page.compare(expected.record(at), 0, RECORD, place, place + RECORD) === 0) at++
        else if (unknown.length < LOOKED_FOR) unknown.push(idText(id))
      }
      if (isOver) skipTo(NO_ID)
    }
    if (missing > 0) return `lacks ${missing} of ${expected.count} events`
    // of entries that are no valid events a reindex makes records, too
    const absent = unknown.length === 0 ? 0 : Number((await this.#read([key], 'absent', ...unknown))[0])
    return absent > 0 ? `has ${absent} records of no entry` : ''
  }

  async #wrongCounters (isExpired: Judge['isExpired']): Promise<AuditProblem[]> {
    const found = await this.#counters()
    const newer = await this.#newerCounts() // after the counters: what they may have by now
    const problems: AuditProblem[] = []
    let looked = 0
    for (const field of new Set([...this.#counts.keys(), ...found.values.keys()])) {
      if (++looked % COUNTERS_AT_ONCE === 0) await endOfTurn()
      const day = Date.parse(field.slice(0, 10))
      const value = found.values.get(field)
      // a counter is dropped a day after the last of its events may be, which may not be trimmed yet
      if (Number.isNaN(day) || (value === undefined && isExpired(day + DAY_MS))) continue
      const wrong = this.#wrongHours(field, day, value, newer.get(field))
      const isListed = value === undefined || found.names.get(field.slice(0, 10))?.has(field.slice(11)) === true
      if (wrong === '' && isListed) continue
      problems.push({ kind: 'counts', detail: `the counter of ${field.replaceAll('\t', ' ')} ${wrong || 'is not among those of its day'}: ${REMEDY}` })
    }
    return problems
  }

  /** Of the hours that are wholly in the stream. */
  #wrongHours (field: string, day: number, value: string | undefined, newer: Float64Array | undefined): string {
    const [total, counted] = hoursOf(value ?? '0')
    const expected = this.#counts.get(field)
    const wrong: string[] = []
    let sum = 0
    for (let hour = 0; hour < 24; hour++) {
      const [count, least] = [counted[hour]!, expected?.[hour] ?? 0]
      sum += count
      const isWhole = day + hour * HOUR_MS >= this.#firstMs + CLOCK_SLACK_MS
      if (isWhole && (count < least || count > least + (newer?.[hour] ?? 0))) wrong.push(`has ${count} in place of ${least} for the hour from ${String(hour).padStart(2, '0')}:00 UTC`)
    }
    if (wrong.length === 0 && sum !== total) wrong.push(`has the total ${total} in place of ${sum}`)
    return wrong.length > 1 ? `${wrong[0]}, and ${wrong.length - 1} more are wrong` : wrong[0] ?? ''
  }

  async #counters (): Promise<{ values: Map<string, string>, names: Map<string, Set<string>> }> {
    const values = new Map<string, string>()
    const names = new Map<string, Set<string>>()
    for (let cursor = '0'; ;) {
      const [next, page] = await this.#read([], 'counters', cursor) as [Buffer, Buffer[]]
      for (let i = 0; i < page.length; i += 2) {
        const [field, value] = [String(page[i]), String(page[i + 1])]
        if (field.length === 10) names.set(field, new Set(value.split('\n')))
        else values.set(field, value)
      }
      cursor = String(next)
      if (cursor === '0') return { values, names }
    }
  }

  async #newerCounts (): Promise<Map<string, Float64Array>> {
    const counts = new Map<string, Float64Array>()
    for (let after = this.#lastId; ;) {
      const [entries] = await this.#read([], 'newer', after) as [[id: Buffer, flat: Buffer[]][]]
      for (const [, flat] of entries) {
        const fields = fieldsOf(flat.map(String))
        addTo(counts, ...counterOf(fields), Number(/^\d{1,15}$/.exec(fields['count'] ?? '1') ?? 1))
      }
      if (entries.length === 0) return counts
      after = String(entries.at(-1)![0])
    }
  }
}

function addTo (counts: Map<string, Float64Array>, field: string, hour: string, count: number): void {
  let hours = counts.get(field)
  if (hours === undefined) counts.set(field, hours = new Float64Array(24))
  hours[Number(hour)]! += count
}

/** @param value like `15 08:3 14:12` */
function hoursOf (value: string): [total: number, hours: Float64Array] {
  const [total, ...counted] = value.split(' ')
  const hours = new Float64Array(24)
  for (const pair of counted) {
    const [hour, count] = pair.split(':')
    hours[Number(hour)]! += Number(count)
  }
  return [Number(total), hours]
}

/** What a bucket must have, as a bucket has it. */
class Records {
  #bytes = Buffer.allocUnsafe(64 * RECORD)
  count = 0

  add (hash: number, id: Buffer): void {
    const at = this.count++ * RECORD
    if (at === this.#bytes.length) this.#bytes = Buffer.concat([this.#bytes], 2 * at)
    this.#bytes.writeUInt32BE(hash, at)
    id.copy(this.#bytes, at + 4)
  }

  record (i: number): Buffer {
    return this.#bytes.subarray(i * RECORD, (i + 1) * RECORD)
  }

  id (i: number): Buffer {
    return this.#bytes.subarray(i * RECORD + 4, (i + 1) * RECORD)
  }
}

function partsOf (id: string): [ms: number, number: number] {
  const [ms = 0, number = 0] = id.split('-').map(Number)
  return [ms, number]
}

/** An id as in a record: the bytes of an older one come first. One that is too great for a record is like none of them. */
function idBytes (ms: number, number: number): Buffer {
  const bytes = Buffer.alloc(ID)
  bytes.writeUIntBE(Math.min(ms, 2 ** 48 - 1), 0, 6)
  bytes.writeUInt32BE(Math.min(number, 2 ** 32 - 1), 6)
  return bytes
}

function idText (bytes: Buffer): string {
  return `${bytes.readUIntBE(0, 6)}-${bytes.readUInt32BE(6)}`
}
