import type { AuditFields } from './event.js'
import { timeOfMac } from './signer.js'
import type { AuditProblem, InstanceReport } from './report.js'

/** Events that are missing so far: if one follows later, it is out of order. */
interface Gap {
  from: number
  to: number
  /** Id of the entry after it. */
  id: string
  late: Set<number>
}

/** Events that are missing at the log's start. */
interface Missing {
  from: number
  to: number
  /** Id of the entry after it. */
  id: string
  /** Mac of the last of them. */
  last: string
}

/** Position of an entry. */
export interface Place {
  id: string
  /** The id's time, ms. */
  ms: number
  /** Number of entries up to this one. */
  number: number
  /** Whether it has the time of the entry before: Redis generates such ids while its clock is behind them. */
  isContinued: boolean
}

/** How far the clocks of events and of Redis may be apart. */
export const CLOCK_SLACK_MS = 60_000
/** How long an event may have waited for Redis. Ids with a longer wait are not believed: no mac covers them. */
const WAIT_MS = 3_600_000

/** Whether an event of that time may have been written at that time. */
export function isPlausible (idMs: number, time: number): boolean {
  return idMs <= time + WAIT_MS
}

/** Checks the order of one instance's events, each of which has a valid mac. */
export class InstanceCheck {
  readonly instance: string
  readonly #add: (problem: AuditProblem) => void
  /** In the order of their seqs. */
  readonly #gaps: Gap[] = []
  readonly #missing: Missing[] = []
  #events = 0
  #firstSeq = 0
  /** Whether the event before the next one is not known. */
  #isCut = true
  #lastWrite = { ms: -Infinity, number: 0 }
  #lastSeq = 0
  #lastMac: string | undefined
  #closed = false
  #retention: string | undefined
  /** The first entry with an impossible id, and how many there are. */
  readonly #moved = { id: '', seq: 0, count: 0 }
  /** The greatest id that does not follow from the entry before. */
  #lastId = { id: '', ms: 0, seq: 0 }

  /** @param add called with each problem */
  constructor (instance: string, add: (problem: AuditProblem) => void) {
    this.instance = instance
    this.#add = add
  }

  /** Before the start of the log. */
  get missing (): readonly Missing[] {
    return this.#missing
  }

  /** What it keeps, as it has said last. */
  get retention (): string | undefined {
    return this.#retention
  }

  /** When it wrote last, milliseconds since 1970, and how many entries there were up to there of those that are left. */
  get lastWrite (): { ms: number, number: number } {
    return this.#lastWrite
  }

  /** What was read so far was trimmed since. */
  restart (): void {
    this.#isCut = true
    this.#lastWrite.number = 0
  }

  /** @returns whether it was not there before */
  next ({ id, ms, number, isContinued }: Place, fields: AuditFields): boolean {
    const seq = Number(fields['seq'])
    const time = timeOfMac(fields['mac']!)
    const { prev } = fields
    if (ms + CLOCK_SLACK_MS < time) this.#addMoved(id, seq)
    if (!isContinued) this.#lastId = { id, ms, seq }
    if (isPlausible(ms, time)) this.#lastWrite.number = number
    this.#lastWrite.ms = Math.max(this.#lastWrite.ms, time, isPlausible(ms, time) ? ms : time)
    if (seq <= this.#lastSeq) return this.#handleOutOfOrder(id, seq)
    const skipped = { from: this.#lastSeq + 1, to: seq - 1, id }
    if (seq === this.#lastSeq + 1) {
      if (prev !== this.#lastMac) this.#addProblem('fork', id, seq, `seq ${seq} does not follow the seq ${seq - 1} that is there`)
    } else if (this.#isCut && prev !== undefined) this.#missing.push({ ...skipped, last: prev })
    else this.#gaps.push({ ...skipped, late: new Set() })
    this.#isCut = false
    this.#firstSeq ||= seq
    this.#events++
    this.#lastSeq = seq
    this.#lastMac = fields['mac']!
    if (fields['event'] === 'audit.closed') this.#closed = true
    this.#retention = fields['retention'] ?? this.#retention
    return true
  }

  /** That was all. @param latest no id can be later, milliseconds since 1970 */
  end (latest: number): void {
    if (this.#lastId.ms > latest) this.#addMoved(this.#lastId.id, this.#lastId.seq)
    const { id, seq, count } = this.#moved
    if (count > 0) this.#addProblem('moved', id, seq, `${count === 1 ? 'an entry has an id' : `${count} entries have ids`} of before the event, or of the future`)
    for (const { from, to, id, late } of this.#gaps) {
      const missing = to - from + 1 - late.size
      if (missing === 0) continue
      const detail = late.size > 0 ? `${missing} of seq ${from} to ${to} are missing` : from === to ? `seq ${from} is missing` : `seq ${from} to ${to} are missing`
      this.#addProblem('gap', id, from, detail)
    }
  }

  report (): InstanceReport {
    return {
      instance: this.instance,
      events: this.#events,
      firstSeq: this.#firstSeq,
      lastSeq: this.#lastSeq,
      closed: this.#closed,
      trimmed: this.#firstSeq > 1,
    }
  }

  #addMoved (id: string, seq: number): void {
    if (this.#moved.count++ > 0) return
    this.#moved.id = id
    this.#moved.seq = seq
  }

  #handleOutOfOrder (id: string, seq: number): boolean {
    const gap = this.#gapOf(seq)
    const isFirst = gap !== undefined && !gap.late.has(seq)
    // before the first one that is there, it may be one that is there twice as well; it is out of order in any case
    this.#addProblem(isFirst || seq < this.#firstSeq ? 'reordered' : 'duplicate', id, seq, `seq ${seq} after seq ${this.#lastSeq}`)
    if (!isFirst) return false
    gap.late.add(seq)
    this.#events++
    return true
  }

  #gapOf (seq: number): Gap | undefined {
    let low = 0
    let high = this.#gaps.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#gaps[middle]!.to < seq) low = middle + 1
      else high = middle
    }
    const gap = this.#gaps[low]
    return gap !== undefined && gap.from <= seq ? gap : undefined
  }

  #addProblem (kind: AuditProblem['kind'], id: string, seq: number, detail: string): void {
    this.#add({ kind, id, instance: this.instance, seq, detail })
  }
}
