import type { Retention } from './append.js'
import { SCHEMA, fieldsOf, type AuditFields } from './event.js'
import { InstanceCheck, type InstanceReport } from './verify-instance.js'
import { timeOfMac, type EventSigner } from './signer.js'
import type { StreamInfo } from './stream-info.js'

export type { InstanceReport } from './verify-instance.js'

/** Something wrong with the log. */
export interface AuditProblem {
  /**
   * `gap`: events between two others are missing; `erased`: events at an instance's start are missing, and trimming does
   * not explain it; `forged`: an entry without a valid mac, changed or written without the key; `duplicate`: an event that
   * was there before; `reordered`: an event after one that it came before; `fork`: an event that does not follow the one
   * before it; `deleted`: somebody deleted entries; `key`: no entry at all has a mac of this key; `missing`: the app's log
   * has the event and the stream lacks it; `unlogged`: the stream has it, and the app's log lacks it; `index`: an index
   * does not have what the stream has; `counts`: a counter does not have what the stream has.
   */
  kind: 'gap' | 'erased' | 'forged' | 'duplicate' | 'reordered' | 'fork' | 'deleted' | 'key' | 'missing' | 'unlogged' | 'index' | 'counts'
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
  /** Of one instance that is known: it may have trimmed, like those that the log tells of. */
  known?: Retention
  witnesses?: readonly Witness[]
}

const MAX_PROBLEMS = 1000
/** Where no instance in the log tells. */
const DEFAULT_RETENTION: Retention = { retentionMs: 90 * 86_400_000, maxEntries: 1_000_000 }
/** Between the clocks of events and of Redis. */
const CLOCK_SLACK_MS = 60_000

/** Checks every entry by itself, and each instance's events against each other. */
export async function verifyAudit (source: AuditSource, signer: EventSigner, { retention: given, known, witnesses = [] }: VerifyOptions = {}): Promise<AuditReport> {
  const found = new Problems()
  const instances = new Map<string, InstanceCheck>()
  const retentions = known === undefined ? [] : [known]
  let entries = 0
  let events = 0
  let oldestMs = Infinity
  let since: string | undefined
  let until: string | undefined
  for await (const page of source.pages()) {
    for (const { id, flat } of page) {
      if (entries++ === 0) oldestMs = parseInt(id, 10)
      const fields = signer.verify(flat)
      if (fields === undefined) {
        found.add({ kind: 'forged', id, ...claimOf(flat) })
        continue
      }
      events++
      const { instance, time } = fields as { instance: string, time: string }
      if (since === undefined || time < since) since = time
      if (until === undefined || time > until) until = time
      if (fields['event'] === 'audit.opened') retentions.push(retentionIn(fields['retention']))
      let check = instances.get(instance)
      if (check === undefined) instances.set(instance, check = new InstanceCheck(instance, (problem) => found.add(problem)))
      if (check.next(id, fields)) for (const witness of witnesses) witness.add(id, fields)
    }
  }

  const info = await source.info()
  const now = await source.now()
  const retention = { ...loosest(retentions), ...given }
  const isFull = retention.maxEntries > 0 && entries >= retention.maxEntries
  const isExpired = (time: number): boolean => retention.retentionMs > 0 && time <= now - retention.retentionMs + CLOCK_SLACK_MS
  // the oldest goes first, however full the stream is
  const isTrimmed = (time: number): boolean => time <= oldestMs + CLOCK_SLACK_MS && (isFull || isExpired(time))
  const reports = [...instances.values()].map((check) => {
    check.end()
    const { first } = check
    if (first.prev !== undefined && !isTrimmed(timeOfMac(first.prev))) {
      const last = new Date(timeOfMac(first.prev)).toISOString()
      found.add({ kind: 'erased', id: first.id, instance: check.instance, seq: 1, detail: `${first.seq - 1} events before seq ${first.seq} are missing, the last of them of ${last}, which is too young to be trimmed` })
    }
    return check.report()
  })
  if (info?.deleted !== undefined) found.add({ kind: 'deleted', id: info.deleted, detail: `somebody deleted entries, the newest of them ${info.deleted}` })
  if (entries > 0 && events === 0) found.only({ kind: 'key', detail: `none of the ${entries} entries has a mac of this key: it is not the key of this log, or nothing in it is genuine` })
  for (const witness of witnesses) for (const problem of await witness.problems({ isTrimmed, isExpired })) found.add(problem)

  return {
    ok: found.count === 0,
    events,
    entries,
    ...(since !== undefined && { since }),
    ...(until !== undefined && { until }),
    ...(info !== undefined && { trimmed: info.removed }),
    retention,
    instances: reports,
    problems: found.list,
    problemCount: found.count,
  }
}

class Problems {
  list: AuditProblem[] = []
  count = 0

  add (problem: AuditProblem): void {
    this.count++
    if (this.list.length < MAX_PROBLEMS) this.list.push(problem)
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
  return { retentionMs: Number(days ?? 0) * 86_400_000, maxEntries: Number(maxEntries ?? 0) }
}

/** Any instance may have trimmed: the one that keeps the least. */
function loosest (retentions: readonly Retention[]): Retention {
  if (retentions.length === 0) return DEFAULT_RETENTION
  const least = (values: number[]): number => values.filter((value) => value > 0).reduce((least, value) => (least === 0 ? value : Math.min(least, value)), 0)
  return { retentionMs: least(retentions.map(({ retentionMs }) => retentionMs)), maxEntries: least(retentions.map(({ maxEntries }) => maxEntries)) }
}
