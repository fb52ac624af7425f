import { FIELD_NAMES, type AuditFields } from './event.js'
import { timeOfMac, type EventSigner } from './signer.js'
import type { AuditProblem } from './report.js'
import type { Judge, Witness } from './verify.js'

/** Longer than any line of an event; longer lines are skipped. */
const MAX_LINE_BYTES = 1_048_576
const NEWLINE = 0x0a
const MARK = Buffer.from('"tooljetEmbedAudit"')

/** Summary of an app's log. */
export interface LogSummary {
  /** Events of this stream and key, each counted once. */
  events: number
  /** Instances whose events these are. */
  instances: number
  /** Events that are not valid here: of another stream or key, cut, or changed. */
  invalid: number
}

/**
 * Compares the stream with the app's log, which has the same events: for each instance between the first and the last of its
 * events in the log, since other files may have what came before and after. First `read()`, then `verifyAudit()`.
 */
export class LogWitness implements Witness {
  readonly #signer: EventSigner
  readonly #instances = new Map<string, LoggedInstance>()
  readonly #summary: LogSummary = { events: 0, instances: 0, invalid: 0 }
  /** The newest retention that an instance announced. */
  #retention = { time: -Infinity, text: undefined as string | undefined }

  constructor (signer: EventSigner) {
    this.#signer = signer
  }

  get summary (): LogSummary {
    return { ...this.#summary, instances: this.#instances.size }
  }

  /** Reads the events of a log: lines of JSON as pino writes them. @param looked called with the number of lines of each part */
  async read (log: AsyncIterable<Buffer>, looked?: (events: number) => void): Promise<void> {
    for await (const lines of linesWith(MARK, log)) {
      for (const line of lines) this.#takeLine(line)
      looked?.(lines.length)
    }
  }

  retentionOf (instance: string): string | undefined {
    return this.#instances.get(instance)?.retention
  }

  get retention (): string | undefined {
    return this.#retention.text
  }

  restart (): void {
    for (const logged of this.#instances.values()) logged.restart()
  }

  add (id: string, fields: AuditFields): void {
    this.#instances.get(fields['instance']!)?.compare(id, fields)
  }

  problems ({ isTrimmed }: Judge): AuditProblem[] {
    return [...this.#instances].flatMap(([instance, logged]) => logged.problems(instance, isTrimmed))
  }

  #takeLine (line: Buffer): void {
    const event = eventIn(line)
    if (event === undefined) return
    const fields = event && this.#signer.verify(inOrder(event))
    if (!fields) {
      this.#summary.invalid++
      return
    }
    const { instance, seq, mac } = fields as { instance: string, seq: string, mac: string }
    let logged = this.#instances.get(instance)
    if (logged === undefined) this.#instances.set(instance, logged = new LoggedInstance())
    if (fields['retention'] !== undefined) {
      logged.retention = fields['retention']
      const time = timeOfMac(mac)
      if (time > this.#retention.time) this.#retention = { time, text: logged.retention }
    }
    // an event may be in the log twice, at level error, too
    if (logged.expect(Number(seq), mac)) this.#summary.events++
  }
}

/** Added where an instance's last events are missing. */
const LAST_ONES = ': its last ones, which it did not write before it was killed, or which somebody took away'

/** The events of one instance in the log, compared with the stream. */
class LoggedInstance {
  /** Mac by seq: events that were not found in the stream yet. */
  readonly #expected = new Map<number, string>()
  readonly #unlogged: Run[] = []
  /** Ids of the entries after a possible gap, by the last seq of the gap. */
  readonly #idsAfter = new Map<number, string>()
  /** The retention that it announced. */
  retention: string | undefined
  #first = Infinity
  #last = 0
  /** First seq that is still in the stream. */
  #firstSeen = Infinity
  #lastSeen = 0

  /** @returns whether it is new */
  expect (seq: number, mac: string): boolean {
    if (this.#expected.has(seq)) return false
    this.#expected.set(seq, mac)
    this.#first = Math.min(this.#first, seq)
    this.#last = Math.max(this.#last, seq)
    return true
  }

  /** What was read of the stream so far has been trimmed meanwhile. */
  restart (): void {
    this.#firstSeen = Infinity
  }

  compare (id: string, { seq: text, mac }: AuditFields): void {
    const seq = Number(text)
    if (seq > this.#lastSeen + 1) this.#idsAfter.set(seq - 1, id)
    this.#firstSeen = Math.min(this.#firstSeen, seq)
    this.#lastSeen = Math.max(this.#lastSeen, seq)
    if (this.#expected.get(seq) === mac) this.#expected.delete(seq)
    else if (seq >= this.#first && seq <= this.#last) extend(this.#unlogged, seq, id)
  }

  problems (instance: string, isTrimmed: Judge['isTrimmed']): AuditProblem[] {
    const missing: Run[] = []
    const seqs = Float64Array.from(this.#expected.keys()).sort()
    for (const seq of seqs) {
      const isBeforeAll = seq < this.#firstSeen
      if (!isBeforeAll || !isTrimmed(timeOfMac(this.#expected.get(seq)!))) extend(missing, seq)
    }
    const timeOf = (seq: number): string => new Date(timeOfMac(this.#expected.get(seq)!)).toISOString()
    const problem = (kind: 'missing' | 'unlogged', { from, id }: Run, detail: string): AuditProblem => ({ kind, ...(id !== undefined && { id }), instance, seq: from, detail })
    return [
      ...missing.map((run) => problem('missing', { ...run, id: this.#idsAfter.get(run.to) }, `${describeRun(run)} in the app's log, of ${timeOf(run.from)}, and not in the stream${this.#lastSeen > 0 && run.from > this.#lastSeen ? LAST_ONES : ''}`)),
      ...this.#unlogged.map((run) => problem('unlogged', run, `${describeRun(run)} in the stream, and not in the app's log`)),
    ]
  }
}

/** Consecutive seqs. */
interface Run {
  from: number
  to: number
  id?: string | undefined
}

function extend (runs: Run[], seq: number, id?: string): void {
  const last = runs.at(-1)
  if (last !== undefined && seq === last.to + 1) last.to = seq
  else runs.push({ from: seq, to: seq, id })
}

function describeRun ({ from, to }: Run): string {
  return from === to ? `seq ${from} is` : `seq ${from} to ${to} are`
}

/** @returns nothing when the line has no event, `null` when the event is invalid */
function eventIn (line: Buffer): Record<string, unknown> | null | undefined {
  let parsed: { tooljetEmbedAudit?: unknown } | null
  try {
    // a container's runtime may put the time before the line
    parsed = JSON.parse(line.toString('utf8', line.indexOf('{'))) as typeof parsed
  } catch {
    return null
  }
  const event = parsed?.tooljetEmbedAudit
  if (event === undefined) return undefined
  return typeof event === 'object' ? event as Record<string, unknown> | null : null
}

/** The fields in the order of the stream: a log collector may have sorted them, or added some. */
function inOrder (event: Record<string, unknown>): string[] {
  return FIELD_NAMES.flatMap((name) => {
    const value = Object.hasOwn(event, name) ? event[name] : undefined
    return typeof value === 'string' ? [name, value] : []
  })
}

/** Lines that contain some bytes, by the chunks in which they end. */
async function * linesWith (bytes: Buffer, chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer[]> {
  let start: Buffer[] = []
  let startBytes = 0
  for await (const chunk of chunks) {
    const lines: Buffer[] = []
    let from = 0
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, from)) {
      const rest = chunk.subarray(from, end)
      const line = startBytes === 0 ? rest : Buffer.concat([...start, rest])
      if (startBytes + rest.length <= MAX_LINE_BYTES && line.includes(bytes)) lines.push(line)
      start = []
      startBytes = 0
      from = end + 1
    }
    const rest = chunk.subarray(from)
    startBytes += rest.length
    if (startBytes > MAX_LINE_BYTES) start = []
    else start.push(rest)
    yield lines
  }
  const last = Buffer.concat(start)
  if (startBytes <= MAX_LINE_BYTES && last.includes(bytes)) yield [last]
}
