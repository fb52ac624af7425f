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
  /** Nothing was before it when it was read: what was read before it was trimmed meanwhile. */
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

/** A second opinion on the events: what it expects beside what is in the stream. */
export interface Witness {
  /** @param fields of a valid event; of one that is there twice, the first time */
  add (id: string, fields: AuditFields): void
  /** What was added so far was trimmed meanwhile. */
  restart? (): void
  /** What an instance kept, as `audit.opened` tells it. */
  retentionOf? (instance: string): string | undefined
  /** What the instance kept that said so last. */
  readonly retention?: string | undefined
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
/** Explains nothing. */
const ANY: Retention = { retentionMs: 0, maxEntries: 0 }
/** By so much later than a younger event an older one may have been written, but for an outage of Redis. */
const ORDER_SLACK_MS = 10_000

/** Checks every entry by itself, and each instance's events against each other. */
export async function verifyAudit (source: AuditSource, signer: EventSigner, { retention: given, known, witnesses = [] }: VerifyOptions = {}): Promise<AuditReport> {
  const found = new Problems()
  const instances = new Map<string, InstanceCheck>()
  const extent = { entries: 0, events: 0, late: 0, since: Infinity, until: -Infinity }
  /** Of what is there still: how many entries, the time of the first id, and of the oldest event whose id is not believed. */
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
      // a sum tells of a time long before it was made
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
  // the oldest goes first, and none was written before its time: but ids are whatever somebody gave them
  const oldest = Math.min(left.firstId + CLOCK_SLACK_MS, left.oldest + ORDER_SLACK_MS)
  const isTrimmedBy = (time: number, trimmer: Trimmer): boolean => time <= oldest && (isTooOld(time, trimmer) || isOneTooMany(time, trimmer))
  const isTrimmed = (time: number): boolean => trimmers.some((trimmer) => isTrimmedBy(time, trimmer))
  // Redis's clock was there when events have such times, be it put back since
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
 * Who may have trimmed last, which explains all that is gone at the start. It did so when it wrote, and left that entry there
 * with as many others before it as it keeps, so what it has written last is the most that it can have known.
 */
interface Trimmer extends Retention {
  /** When it wrote last, milliseconds since 1970. */
  ms: number
  /** How many entries that are left there were then. */
  number: number
}

function isTooOld (time: number, { retentionMs, ms }: Trimmer): boolean {
  return retentionMs > 0 && time <= ms - retentionMs + CLOCK_SLACK_MS
}

function isOneTooMany (time: number, { maxEntries, ms, number }: Trimmer): boolean {
  return maxEntries > 0 && number >= maxEntries && time <= ms + CLOCK_SLACK_MS
}

/** @returns what the newest instance keeps that tells it, too: of one that does not tell it is taken for the same */
function trimmersOf (checks: readonly InstanceCheck[], now: Pick<Trimmer, 'ms' | 'number'>, { given, known, witnesses }: Required<Pick<VerifyOptions, 'witnesses'>> & { [option in 'given' | 'known']: Partial<Retention> | undefined }): { trimmers: Trimmer[], newest: Partial<Retention> } {
  const writers = checks.map(({ instance, retention, lastWrite }) => {
    const text = retention ?? witnesses.map((witness) => witness.retentionOf?.(instance)).find((text) => text !== undefined)
    return { lastWrite, retention: text === undefined ? undefined : retentionIn(text) }
  }).sort((one, other) => one.lastWrite.ms - other.lastWrite.ms)
  const logged = witnesses.map(({ retention }) => retention).find((text) => text !== undefined)
  const last = known ?? writers.findLast(({ retention }) => retention !== undefined)?.retention ?? (logged === undefined ? undefined : retentionIn(logged))
  const newest = { ...last, ...given }
  if (given !== undefined && Object.keys(given).length > 0) return { trimmers: [{ ...ANY, ...newest, ...now }], newest }
  const trimmers = writers.map(({ lastWrite, retention }) => ({ ...ANY, ...(retention ?? newest), ...lastWrite }))
  return { trimmers: known === undefined ? trimmers : [...trimmers, { ...ANY, ...known, ...now }], newest }
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
