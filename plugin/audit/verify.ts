import { CHAIN_START, type Chain } from './chain.js'
import type { AuditEntry, AuditFields } from './event.js'

/** Something wrong with one instance's events. */
export interface AuditProblem {
  /**
   * `gap`: events between two others are missing; `forged`: the mac does not fit, the event was changed or written
   * without the key; `duplicate`: a seq that was there before; `reordered`: an event after one that it came before.
   */
  kind: 'gap' | 'forged' | 'duplicate' | 'reordered'
  /** Id of the stream entry at which it shows: of a gap, the one after it. */
  id: string
  /** Seq of the event: of a gap the first one that is missing. */
  seq: number
  /** In words, for people. */
  detail: string
}

/** What `verify()` found of one instance, from a start of the plugin to its end. */
export interface InstanceReport {
  /** Host, process and a random part. */
  instance: string
  /** How many of its events are in the stream. */
  events: number
  /** Number of the first of them; it counts from 1. */
  firstSeq: number
  /** Number of the last of them. */
  lastSeq: number
  /** `false`: the instance runs, or ended in a way after which events may be missing. */
  closed: boolean
  /** `true`: its first events are no longer in the stream. */
  trimmed: boolean
  /** What is wrong, in the stream's order. */
  problems: AuditProblem[]
}

/** What Redis itself counts of a stream, from Redis 7 on. */
export interface StreamFacts {
  /** Entries that were trimmed or deleted. */
  removed: number
  /** Id of the newest entry that was deleted, which trimming does not do. */
  deleted?: string
}

/** What `verify()` found. */
export interface AuditReport {
  /** Nothing is missing between two events, reordered, forged or doubled, and nothing was deleted. */
  ok: boolean
  /** How many there are, of all instances. */
  events: number
  /** Not there when Redis is older than 7, or does not let this user ask. */
  stream?: StreamFacts | undefined
  /** One by one, in the order of their first events. */
  instances: InstanceReport[]
}

/** Walks the stream and checks each instance's chain. */
export async function verifyAudit (entries: AsyncIterable<AuditEntry>, chain: Chain, stream?: StreamFacts): Promise<AuditReport> {
  const checks = new Map<string, InstanceCheck>()
  let events = 0
  for await (const { id, fields } of entries) {
    events++
    const instance = fields['instance'] ?? ''
    let check = checks.get(instance)
    if (check === undefined) checks.set(instance, check = new InstanceCheck(instance, chain))
    check.next(id, fields)
  }
  const instances = [...checks.values()].map((check) => check.report())
  const ok = stream?.deleted === undefined && instances.every(({ problems }) => problems.length === 0)
  return { ok, events, stream, instances }
}

/** One event as it came. */
interface Came {
  id: string
  seq: number
  fields: AuditFields
}

/** Events that are missing so far: one that comes later is out of order. */
interface Gap {
  problem: AuditProblem
  from: number
  to: number
  late: Set<number>
  macBefore: string
  /** The event after the gap. */
  opener: Came
}

/** One instance's chain, event by event. */
class InstanceCheck {
  readonly #instance: string
  readonly #chain: Chain
  readonly #problems = new Set<AuditProblem>()
  readonly #gaps = new Set<Gap>()
  /** Events that came before their turn, or never have one. */
  readonly #early = new Map<number, Came>()
  #events = 0
  #firstSeq = 0
  #lastSeq = 0
  #lastMac = CHAIN_START
  #closed = false

  constructor (instance: string, chain: Chain) {
    this.#instance = instance
    this.#chain = chain
  }

  next (id: string, fields: AuditFields): void {
    const came = { id, seq: Number(fields['seq']), fields }
    this.#events++
    if (!Number.isSafeInteger(came.seq) || came.seq < 1) return this.#wrong('forged', came, 'an entry without a seq')
    if (this.#firstSeq === 0) {
      this.#firstSeq = came.seq
      this.#lastSeq = came.seq - 1
      if (came.seq !== 1) return this.#goOn(came) // the mac before it is not known
    }
    this.#placeEarly(came.seq)
    if (came.seq <= this.#lastSeq) return this.#late(came)
    if (came.seq > this.#lastSeq + 1) this.#openGap(came)
    else if (!this.#fits(this.#lastMac, came)) this.#forged(came)
    this.#goOn(came)
  }

  report (): InstanceReport {
    for (const came of this.#early.values()) this.#forged(came)
    return {
      instance: this.#instance,
      events: this.#events,
      firstSeq: this.#firstSeq,
      lastSeq: this.#lastSeq,
      closed: this.#closed,
      trimmed: this.#firstSeq !== 1,
      problems: [...this.#problems],
    }
  }

  #goOn ({ seq, fields }: Came): void {
    this.#lastSeq = seq
    this.#lastMac = fields['mac'] ?? ''
    this.#closed = fields['event'] === 'audit.closed'
  }

  #openGap (opener: Came): void {
    const [from, to] = [this.#lastSeq + 1, opener.seq - 1]
    const problem: AuditProblem = { kind: 'gap', id: opener.id, seq: from, detail: from === to ? `seq ${from} is missing` : `seq ${from} to ${to} are missing` }
    this.#problems.add(problem)
    this.#gaps.add({ problem, from, to, late: new Set(), macBefore: this.#lastMac, opener })
  }

  #late (came: Came): void {
    const { seq } = came
    const gap = [...this.#gaps].find(({ from, to, late }) => seq >= from && seq <= to && !late.has(seq))
    if (gap === undefined) return this.#wrong('duplicate', came, `seq ${seq} after seq ${this.#lastSeq}`)
    const isNext = seq === gap.from && this.#lastSeq === gap.opener.seq && this.#fits(gap.macBefore, came)
    if (isNext && !this.#fits(came.fields['mac'] ?? '', gap.opener)) {
      // what opened the gap was out of place: go on as if it had not been there
      this.#forget(gap)
      this.#early.set(gap.opener.seq, gap.opener)
      return this.#goOn(came)
    }
    this.#wrong('reordered', came, `seq ${seq} after seq ${this.#lastSeq}`)
    if (seq === gap.from && !this.#fits(gap.macBefore, came)) this.#forged(came)
    gap.late.add(seq)
    if (gap.late.size > gap.to - gap.from) this.#forget(gap)
  }

  /** What came early has its turn before the event that is now here. */
  #placeEarly (before: number): void {
    for (;;) {
      const came = this.#early.get(this.#lastSeq + 1)
      if (came === undefined || came.seq > before) return
      const fits = this.#fits(this.#lastMac, came)
      this.#early.delete(came.seq)
      if (!fits) return this.#forged(came)
      this.#wrong('reordered', came, `seq ${came.seq} before seq ${this.#lastSeq}`)
      this.#goOn(came)
    }
  }

  #forget (gap: Gap): void {
    this.#gaps.delete(gap)
    this.#problems.delete(gap.problem)
  }

  #fits (before: string, { fields }: Came): boolean {
    return this.#chain.holds(before, fields)
  }

  #forged (came: Came): void {
    this.#wrong('forged', came, `the mac of seq ${came.seq} does not fit`)
  }

  #wrong (kind: AuditProblem['kind'], { id, seq }: Came, detail: string): void {
    this.#problems.add({ kind, id, seq, detail })
  }
}
