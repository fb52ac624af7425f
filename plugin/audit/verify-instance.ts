import type { AuditFields } from './event.js'
import { timeOfMac } from './signer.js'
import type { AuditProblem } from './verify.js'

/** What `verify()` found of one instance, from a start of the plugin to its end. */
export interface InstanceReport {
  /** Host, process and a random part. */
  instance: string
  /** How many of its events are in the stream, each counted once. */
  events: number
  /** Number of the first of them; it counts from 1. */
  firstSeq: number
  /** Number of the last of them. */
  lastSeq: number
  /** `false`: the instance runs, or ended in a way after which events may be missing. */
  closed: boolean
  /** `true`: its first events are no longer in the stream. */
  trimmed: boolean
}

/** Events that are missing so far: one that comes later is out of order. */
interface Gap {
  from: number
  to: number
  /** Id of the entry after it. */
  id: string
  late: Set<number>
}

/** Between the clocks of events and of Redis. */
export const CLOCK_SLACK_MS = 60_000

/** One instance's events, each of which is valid by itself, in the order in which they are in the stream. */
export class InstanceCheck {
  readonly instance: string
  readonly #add: (problem: AuditProblem) => void
  /** In the order of their seqs. */
  readonly #gaps: Gap[] = []
  #events = 0
  #first = { id: '', seq: 0, prev: undefined as string | undefined }
  #lastSeq = 0
  #lastMac = ''
  #closed = false
  #retention: string | undefined
  /** The first one with an id that cannot be, and how many there are. */
  readonly #moved = { id: '', seq: 0, count: 0 }
  /** The greatest id of all. */
  #lastId = { id: '', ms: 0, seq: 0 }

  /** @param add takes what is wrong */
  constructor (instance: string, add: (problem: AuditProblem) => void) {
    this.instance = instance
    this.#add = add
  }

  /** The first one; `prev` is absent when nothing was before it. */
  get first (): { id: string, seq: number, prev: string | undefined } {
    return this.#first
  }

  /** What it keeps, as it has said last. */
  get retention (): string | undefined {
    return this.#retention
  }

  /** When its last event was, milliseconds since 1970. */
  get lastTime (): number {
    return timeOfMac(this.#lastMac)
  }

  /** @returns whether it was not there before */
  next (id: string, fields: AuditFields): boolean {
    const seq = Number(fields['seq'])
    const ms = parseInt(id, 10)
    if (ms + CLOCK_SLACK_MS < timeOfMac(fields['mac']!)) this.#addMoved(id, seq)
    this.#lastId = { id, ms, seq }
    if (this.#events === 0) this.#first = { id, seq, prev: fields['prev'] }
    else if (seq <= this.#lastSeq) return this.#late(id, seq)
    else if (seq > this.#lastSeq + 1) this.#gaps.push({ from: this.#lastSeq + 1, to: seq - 1, id, late: new Set() })
    else if (fields['prev'] !== this.#lastMac) this.#wrong('fork', id, seq, `seq ${seq} does not follow the seq ${seq - 1} that is there`)
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
    if (count > 0) this.#wrong('moved', id, seq, `${count === 1 ? 'an entry has an id' : `${count} entries have ids`} of before the event, or of the future`)
    for (const { from, to, id, late } of this.#gaps) {
      const missing = to - from + 1 - late.size
      if (missing === 0) continue
      const detail = late.size > 0 ? `${missing} of seq ${from} to ${to} are missing` : from === to ? `seq ${from} is missing` : `seq ${from} to ${to} are missing`
      this.#wrong('gap', id, from, detail)
    }
  }

  report (): InstanceReport {
    return {
      instance: this.instance,
      events: this.#events,
      firstSeq: this.#first.seq,
      lastSeq: this.#lastSeq,
      closed: this.#closed,
      trimmed: this.#first.prev !== undefined,
    }
  }

  #addMoved (id: string, seq: number): void {
    if (this.#moved.count++ > 0) return
    this.#moved.id = id
    this.#moved.seq = seq
  }

  #late (id: string, seq: number): boolean {
    const gap = this.#gapOf(seq)
    const isFirst = gap !== undefined && !gap.late.has(seq)
    // before the first one that is there, it may be one that is there twice as well; it is out of order in any case
    this.#wrong(isFirst || seq < this.#first.seq ? 'reordered' : 'duplicate', id, seq, `seq ${seq} after seq ${this.#lastSeq}`)
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

  #wrong (kind: AuditProblem['kind'], id: string, seq: number, detail: string): void {
    this.#add({ kind, id, instance: this.instance, seq, detail })
  }
}
