import { setImmediate as endOfTurn } from 'node:timers/promises'
import { MS_PER_DAY } from '../durations.js'
import type { Retention } from './append.js'
import { SCHEMA, fieldsOf, type AuditFields } from './event.js'
import { CLOCK_SLACK_MS, InstanceCheck, type InstanceReport } from './verify-instance.js'
import { timeOfMac, type EventSigner } from './signer.js'
import type { StreamInfo } from './stream-info.js'

export type { InstanceReport } from './verify-instance.js'

/** Something wrong with the log. */
export interface AuditProblem {
  /**
   * `gap`: events between two others are missing; `erased`: events at an instance's start are missing, and trimming does
   * not explain it; `forged`: an entry without a valid mac, changed or written without the key; `duplicate`: an event that
   * was there before; `reordered`: an event after one that it came before; `fork`: an event that does not follow the one
   * before it; `moved`: an entry whose id cannot be of when its event was written; `deleted`: somebody deleted entries; `key`: no entry at all has a mac of this key; `missing`: the app's log
   * has the event and the stream lacks it; `unlogged`: the stream has it, and the app's log lacks it; `index`: an index
   * does not have what the stream has; `counts`: a counter does not have what the stream has.
   */
  kind: 'gap' | 'erased' | 'forged' | 'duplicate' | 'reordered' | 'fork' | 'moved' | 'deleted' | 'key' | 'missing' | 'unlogged' | 'index' | 'counts'
  /** Id of the stream entry at which it shows: of what is missing, the one after it; absent where there is none. */
  id?: string
  /** Whose event. */
  instance?: string
  /** Its seq: of what is missing, the first one. */
  seq?: number
  /** In words, for people. */
  detail: string
}

/** What `verify()` found. */
export interface AuditReport {
  /** Every entry is an event of this log, none is missing that trimming does not explain, and none is doubled or out of order. */
  ok: boolean
  /** Valid events in the stream. */
  events: number
  /** Entries in the stream. */
  entries: number
  /** Time of the oldest event, ISO 8601. */
  since?: string
  /** Time of the newest event, ISO 8601. */
  until?: string
  /** Entries that are no longer there; only Redis 7 and later counts them. */
  trimmed?: number
  /** Events that were written more than a minute after they happened: Redis was unavailable, or somebody moved them. */
  late: number
  /** By which it was judged what may be gone; 0: for ever, or any number. */
  retention: Retention
  /** One by one, in the order of their first events. */
  instances: InstanceReport[]
  /** What is wrong, in the order of the stream: the first 1,000. */
  problems: AuditProblem[]
  /** How many problems there are. */
  problemCount: number
}

/** An entry as Redis gives it: fields and values in a row. */
export interface RawEntry {
  id: string
  flat: string[]
}

/** A stream to check. */
export interface AuditSource {
  /** All entries, oldest first. */
  pages (): AsyncIterable<RawEntry[]>
  info (): Promise<StreamInfo | undefined>
  /** Redis's time, milliseconds since 1970. */
  now (): Promise<number>
}

/** A second opinion on the events: what it expects beside what is in the stream. */
export interface Witness {
  /** @param fields of a valid event; of one that is there twice, the first time */
  add (id: string, fields: AuditFields): void
  problems (judge: Judge): Promise<AuditProblem[]> | AuditProblem[]
}

/** What a log may have lost. */
export interface Judge {
  /** Whether trimming explains that an event of that time is gone. */
  isTrimmed: (time: number) => boolean
  /** Whether what is of that time need not be kept any more. */
  isExpired: (time: number) => boolean
}

export interface VerifyOptions {
  /** In place of what the log says of itself. */
  retention?: Partial<Retention>
  /** Of an instance that runs: it trims, like those that the log tells of. */
  known?: Retention
  witnesses?: readonly Witness[]
}

const MAX_PROBLEMS = 1000
/** Where no instance in the log tells. */
const DEFAULT_RETENTION: Retention = { retentionMs: 90 * MS_PER_DAY, maxEntries: 1_000_000 }
/** By so much later than a younger event an older one may have been written, but for an outage of Redis. */
const ORDER_SLACK_MS = 10_000

/** Checks every entry by itself, and each instance's events against each other. */
export async function verifyAudit (source: AuditSource, signer: EventSigner, { retention: given, known, witnesses = [] }: VerifyOptions = {}): Promise<AuditReport> {
  const found = new Problems()
  const instances = new Map<string, InstanceCheck>()
  const extent = { entries: 0, events: 0, late: 0, firstId: Infinity, since: Infinity, until: -Infinity }
  const now = await source.now()
  for await (const page of source.pages()) {
    for (const { id, flat } of page) {
      const idMs = parseInt(id, 10)
      if (extent.entries++ === 0) extent.firstId = idMs
      const fields = signer.verify(flat)
      if (fields === undefined) {
        found.add(() => ({ kind: 'forged', id, ...claimOf(flat) }))
        continue
      }
      extent.events++
      const { instance, mac } = fields as { instance: string, mac: string }
      const time = timeOfMac(mac)
      extent.since = Math.min(extent.since, time)
      extent.until = Math.max(extent.until, time)
      if (idMs > time + CLOCK_SLACK_MS) extent.late++
      let check = instances.get(instance)
      if (check === undefined) instances.set(instance, check = new InstanceCheck(instance, (problem) => found.add(() => problem)))
      if (check.next(id, fields)) for (const witness of witnesses) witness.add(id, fields)
    }
    await endOfTurn()
  }

  const end = Math.max(now, await source.now()) + CLOCK_SLACK_MS
  const info = await source.info()
  const trimmers = trimmersOf(instances.values(), end - CLOCK_SLACK_MS, known, given)
  const isExpired = (time: number): boolean => trimmers.some(({ retentionMs, until }) => retentionMs > 0 && time <= until - retentionMs + CLOCK_SLACK_MS)
  // the oldest goes first, by the time of the events: ids are whatever somebody gave them
  const oldest = Math.min(extent.firstId + CLOCK_SLACK_MS, extent.since + ORDER_SLACK_MS)
  const isTrimmed = (time: number): boolean => time <= oldest && (isExpired(time) || trimmers.some(({ maxEntries, until }) => maxEntries > 0 && extent.entries >= maxEntries && time <= until))
  const reports = [...instances.values()].map((check) => {
    check.end(end)
    const { first } = check
    if (first.prev !== undefined && !isTrimmed(timeOfMac(first.prev))) {
      const last = new Date(timeOfMac(first.prev)).toISOString()
      found.add(() => ({ kind: 'erased', id: first.id, instance: check.instance, seq: 1, detail: `${first.seq === 2 ? 'seq 1 is' : `seq 1 to ${first.seq - 1} are`} missing, the last of ${last}, which trimming does not explain` }))
    }
    return check.report()
  })
  if (info?.deleted !== undefined) found.add(() => ({ kind: 'deleted', id: info.deleted, detail: `somebody deleted entries, the newest of them ${info.deleted}` }))
  const { entries, events, late, since, until } = extent
  if (entries > 0 && events === 0) found.only({ kind: 'key', detail: `none of the ${entries} entries has a mac of this key: it is not the key of this log, or nothing in it is genuine` })
  for (const witness of witnesses) for (const problem of await witness.problems({ isTrimmed, isExpired })) found.add(() => problem)

  const { retentionMs, maxEntries } = trimmers.at(-1)!
  return {
    ok: found.count === 0,
    events,
    entries,
    ...(events > 0 && { since: new Date(since).toISOString(), until: new Date(until).toISOString() }),
    ...(info !== undefined && { trimmed: info.removed }),
    late,
    retention: { retentionMs, maxEntries },
    instances: reports,
    problems: found.list,
    problemCount: found.count,
  }
}

/** Who may have trimmed what: an instance by its own retention, and nothing after its last event. */
interface Trimmer extends Retention {
  /** Milliseconds since 1970. */
  until: number
}

/** @returns one at the least, the one to name last */
function trimmersOf (instances: Iterable<InstanceCheck>, now: number, known?: Retention, given?: Partial<Retention>): Trimmer[] {
  const told = [...instances].flatMap(({ retention, lastTime }) => (retention === undefined ? [] : [{ ...retentionIn(retention), until: lastTime }]))
  told.sort((one, other) => one.until - other.until)
  if (known !== undefined) told.push({ ...known, until: now })
  const newest = told.at(-1) ?? { ...DEFAULT_RETENTION, until: now }
  if (given !== undefined && Object.keys(given).length > 0) return [{ ...newest, ...given, until: now }]
  return told.length > 0 ? told : [newest]
}

class Problems {
  list: AuditProblem[] = []
  count = 0

  add (problem: () => AuditProblem): void {
    this.count++
    if (this.list.length < MAX_PROBLEMS) this.list.push(problem())
  }

  /** In place of all others. */
  only (problem: AuditProblem): void {
    this.list = [problem]
    this.count = 1
  }
}

/** What an entry says that it is, and why it is not believed. */
function claimOf (flat: readonly string[]): Pick<AuditProblem, 'instance' | 'seq' | 'detail'> {
  const { instance, seq, schema, mac } = fieldsOf(flat)
  const isDoubled = new Set(flat.filter((_, i) => i % 2 === 0)).size * 2 !== flat.length
  const why = mac === undefined ? 'it has no mac' : isDoubled ? 'it has a field twice' : schema !== SCHEMA ? `it is of schema ${schema?.slice(0, 20) ?? 'none'}, which cannot be checked` : 'its mac does not fit'
  return { ...(instance !== undefined && { instance: instance.slice(0, 256) }), ...(/^\d{1,15}$/.test(seq ?? '') && { seq: Number(seq) }), detail: why }
}

/** @param text like `90d/1000000` */
function retentionIn (text = ''): Retention {
  const [, days, maxEntries] = /^([\d.e+-]+)d\/(\d+)$/.exec(text) ?? []
  return { retentionMs: Number(days ?? 0) * MS_PER_DAY, maxEntries: Number(maxEntries ?? 0) }
}
