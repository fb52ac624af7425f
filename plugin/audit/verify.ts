import { setImmediate as endOfTurn } from 'node:timers/promises'
import { MS_PER_DAY } from '../durations.js'
import type { Retention } from './append.js'
import { SCHEMA, fieldsOf, type AuditFields } from './event.js'
import type { AuditProblem, AuditReport } from './report.js'
import { CLOCK_SLACK_MS, InstanceCheck, isPlausible } from './verify-instance.js'
import { timeOfMac, type EventSigner } from './signer.js'
import type { StreamInfo } from './stream-info.js'

/** An entry as Redis gives it: fields and values in a row. */
export interface RawEntry {
  id: string
  flat: string[]
  /** It was the stream's first entry when it was read: all that was read before has been trimmed meanwhile. */
  isFirst?: boolean
}

/** A stream to check. */
export interface AuditSource {
  /** All entries, oldest first. */
  pages (): AsyncIterable<RawEntry[]>
  info (): Promise<StreamInfo | undefined>
  /** Redis's time, milliseconds since 1970. */
  now (): Promise<number>
}

/** Another source that is compared with the events of the stream: indexes, the app's log, a running instance. */
export interface Witness {
  /** @param fields of a valid event; of a doubled one only the first */
  add (id: string, fields: AuditFields): void
  /** All that was added so far has been trimmed meanwhile. */
  restart? (): void
  /** Retention of an instance, as its `audit.opened` has it. */
  retentionOf? (instance: string): string | undefined
  /** The newest retention that any instance announced. */
  readonly retention?: string | undefined
  problems (judge: Judge): Promise<AuditProblem[]> | AuditProblem[]
}

/** Decides which events may be missing. */
export interface Judge {
  /** Whether trimming explains that an event of that time is missing. */
  isTrimmed: (time: number) => boolean
  /** Whether the retention of that time is over. */
  isExpired: (time: number) => boolean
}

export interface VerifyOptions {
  /** In place of the retention that the log has. */
  retention?: Partial<Retention>
  /** Retention of a running instance, which trims like those in the log. */
  known?: Retention
  witnesses?: readonly Witness[]
}

const MAX_PROBLEMS = 1000
/** Where no instance in the log has announced one. */
const DEFAULT_RETENTION: Retention = { retentionMs: 90 * MS_PER_DAY, maxEntries: 1_000_000 }
/** No limit: explains no missing event. */
const UNLIMITED: Retention = { retentionMs: 0, maxEntries: 0 }
/** How much later than a younger event an older one may be written, except in an outage of Redis. */
const ORDER_SLACK_MS = 10_000

/** Checks every entry by itself, and each instance's events against each other. */
export async function verifyAudit (source: AuditSource, signer: EventSigner, { retention: given, known, witnesses = [] }: VerifyOptions = {}): Promise<AuditReport> {
  const found = new Problems()
  const instances = new Map<string, InstanceCheck>()
  const extent = { entries: 0, events: 0, late: 0, since: Infinity, until: -Infinity }
  /** Of the entries that are still there: their number, the time of the first id, and that of the oldest event whose id is not believed. */
  let left = { entries: 0, firstId: Infinity, oldest: Infinity }
  let lastMs = -1
  const now = await source.now()
  for await (const page of source.pages()) {
    for (const { id, flat, isFirst = false } of page) {
      const ms = parseInt(id, 10)
      const isContinued = ms === lastMs
      lastMs = ms
      if (isFirst) {
        left = { entries: 0, firstId: ms, oldest: Infinity }
        for (const part of [...instances.values(), ...witnesses]) part.restart?.()
      }
      extent.entries++
      if (left.entries++ === 0) left.firstId = ms
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
      if (ms > time + CLOCK_SLACK_MS) extent.late++
      // the time of a summed-up event is long before it was written
      if (fields['count'] === undefined && !isPlausible(ms, time)) left.oldest = Math.min(left.oldest, time)
      let check = instances.get(instance)
      if (check === undefined) instances.set(instance, check = new InstanceCheck(instance, (problem) => found.add(() => problem)))
      if (check.next({ id, ms, number: left.entries, isContinued }, fields)) for (const witness of witnesses) witness.add(id, fields)
    }
    await endOfTurn()
  }

  const end = Math.max(now, await source.now())
  const info = await source.info()
  const { trimmers, newest } = trimmersOf([...instances.values()], { ms: end, number: left.entries }, { given, known, witnesses })
  const retention = { ...DEFAULT_RETENTION, ...newest }
  const assumed: Trimmer = { ...retention, ms: end, number: left.entries }
  const isAssumed = newest.retentionMs === undefined || newest.maxEntries === undefined
  const isExpired = (time: number): boolean => (isAssumed ? [...trimmers, assumed] : trimmers).some((trimmer) => isTooOld(time, trimmer))
  // trimming removes the oldest first; the times of events count, too, because anyone can choose ids
  const oldest = Math.min(left.firstId + CLOCK_SLACK_MS, left.oldest + ORDER_SLACK_MS)
  const isTrimmedBy = (time: number, trimmer: Trimmer): boolean => time <= oldest && (isTooOld(time, trimmer) || isOneTooMany(time, trimmer))
  const isTrimmed = (time: number): boolean => trimmers.some((trimmer) => isTrimmedBy(time, trimmer))
  // events of a later time show that Redis's clock was put back
  const latest = Math.max(end, extent.until) + CLOCK_SLACK_MS
  const reports = [...instances.values()].map((check) => {
    check.end(latest)
    for (const { id, from, to, last } of check.missing) {
      const time = timeOfMac(last)
      if (isTrimmed(time)) continue
      const why = isAssumed && isTrimmedBy(time, assumed) ? 'and nothing tells the retention, which --retention and --max-entries do' : 'which trimming does not explain'
      found.add(() => ({ kind: 'erased', id, instance: check.instance, seq: from, detail: `${from === to ? `seq ${from} is` : `seq ${from} to ${to} are`} missing, the last of ${new Date(time).toISOString()}, ${why}` }))
    }
    return check.report()
  })
  if (info?.deleted !== undefined) found.add(() => ({ kind: 'deleted', id: info.deleted, detail: `somebody deleted entries, the newest of them ${info.deleted}` }))
  const { entries, events, late, since, until } = extent
  if (entries > 0 && events === 0) found.only({ kind: 'key', detail: `none of the ${entries} entries has a mac of this key: it is not the key of this log, or nothing in it is genuine` })
  for (const witness of witnesses) for (const problem of await witness.problems({ isTrimmed, isExpired })) found.add(() => problem)

  return {
    ok: found.count === 0,
    events,
    entries,
    ...(events > 0 && { since: new Date(since).toISOString(), until: new Date(until).toISOString() }),
    ...(info !== undefined && { trimmed: info.removed }),
    late,
    retention: { retentionMs: retention.retentionMs, maxEntries: retention.maxEntries },
    retentionAssumed: isAssumed,
    instances: reports,
    problems: found.list,
    problemCount: found.count,
  }
}

/**
 * An instance that may have trimmed, which explains missing events at the start. It trims when it writes, and keeps that entry
 * and as many before it as its retention allows: so its last entry limits what it can have trimmed.
 */
interface Trimmer extends Retention {
  /** Time of its last entry, milliseconds since 1970. */
  ms: number
  /** How many of the entries that are left there were up to then. */
  number: number
}

function isTooOld (time: number, { retentionMs, ms }: Trimmer): boolean {
  return retentionMs > 0 && time <= ms - retentionMs + CLOCK_SLACK_MS
}

function isOneTooMany (time: number, { maxEntries, ms, number }: Trimmer): boolean {
  return maxEntries > 0 && number >= maxEntries && time <= ms + CLOCK_SLACK_MS
}

/** @returns also the newest retention that is known, which stands for that of instances without one */
function trimmersOf (checks: readonly InstanceCheck[], now: Pick<Trimmer, 'ms' | 'number'>, { given, known, witnesses }: Required<Pick<VerifyOptions, 'witnesses'>> & { [option in 'given' | 'known']: Partial<Retention> | undefined }): { trimmers: Trimmer[], newest: Partial<Retention> } {
  const writers = checks.map(({ instance, retention, lastWrite }) => {
    const text = retention ?? witnesses.map((witness) => witness.retentionOf?.(instance)).find((text) => text !== undefined)
    return { lastWrite, retention: text === undefined ? undefined : retentionIn(text) }
  }).sort((one, other) => one.lastWrite.ms - other.lastWrite.ms)
  const logged = witnesses.map(({ retention }) => retention).find((text) => text !== undefined)
  const last = known ?? writers.findLast(({ retention }) => retention !== undefined)?.retention ?? (logged === undefined ? undefined : retentionIn(logged))
  const newest = { ...last, ...given }
  if (given !== undefined && Object.keys(given).length > 0) return { trimmers: [{ ...UNLIMITED, ...newest, ...now }], newest }
  const trimmers = writers.map(({ lastWrite, retention }) => ({ ...UNLIMITED, ...(retention ?? newest), ...lastWrite }))
  return { trimmers: known === undefined ? trimmers : [...trimmers, { ...UNLIMITED, ...known, ...now }], newest }
}

class Problems {
  list: AuditProblem[] = []
  count = 0

  add (problem: () => AuditProblem): void {
    this.count++
    if (this.list.length < MAX_PROBLEMS) this.list.push(problem())
  }

  /** Replaces all others. */
  only (problem: AuditProblem): void {
    this.list = [problem]
    this.count = 1
  }
}

/** What a forged entry claims to be, and what is wrong with it. */
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
