import { CHAIN_START, type Chain } from './chain.js'
import type { AuditFields } from './event.js'

/** Something wrong with one instance's events. */
export interface AuditProblem {
  /** `gap`: events between two others are missing; `forged`: a mac that does not fit; `duplicate`: a seq that was there before. */
  kind: 'gap' | 'forged' | 'duplicate'
  /** Id of the stream entry at which it shows. */
  id: string
  /** Seq of that entry. */
  seq: number
  detail: string
}

export interface InstanceReport {
  instance: string
  events: number
  firstSeq: number
  lastSeq: number
  /** `false`: the instance runs, or ended in a way after which events may be missing. */
  closed: boolean
  /** `true`: its first events are no longer in the stream. */
  trimmed: boolean
  problems: AuditProblem[]
}

export interface AuditReport {
  /** Nothing is missing between two events, forged or doubled. */
  ok: boolean
  events: number
  instances: InstanceReport[]
}

/** Walks the stream and checks each instance's chain. */
export async function verifyAudit (entries: AsyncIterable<{ id: string, fields: AuditFields }>, chain: Chain): Promise<AuditReport> {
  const reports = new Map<string, InstanceReport & { lastMac: string }>()
  let events = 0
  for await (const { id, fields } of entries) {
    events++
    const instance = fields['instance'] ?? ''
    const seq = Number(fields['seq'])
    let report = reports.get(instance)
    if (report === undefined) {
      report = { instance, events: 0, firstSeq: seq, lastSeq: seq - 1, closed: false, trimmed: seq !== 1, problems: [], lastMac: CHAIN_START }
      reports.set(instance, report)
    }
    const problem = check(report, seq, fields, chain)
    if (problem !== undefined) report.problems.push({ ...problem, id, seq })
    report.events++
    if (problem?.kind === 'duplicate') continue
    report.lastSeq = seq
    report.lastMac = fields['mac'] ?? ''
    report.closed = fields['event'] === 'audit.closed'
  }
  const instances = [...reports.values()].map(({ lastMac: _, ...report }) => report)
  return { ok: instances.every(({ problems }) => problems.length === 0), events, instances }
}

function check (report: InstanceReport & { lastMac: string }, seq: number, fields: AuditFields, chain: Chain): Pick<AuditProblem, 'kind' | 'detail'> | undefined {
  const expected = report.lastSeq + 1
  if (!Number.isSafeInteger(seq) || seq < 1) return { kind: 'forged', detail: 'an entry without a seq' }
  if (seq < expected) return { kind: 'duplicate', detail: `seq ${seq} after seq ${report.lastSeq}` }
  if (seq > expected) return { kind: 'gap', detail: `seq ${expected} to ${seq - 1} are missing` }
  const unknownStart = report.events === 0 && report.trimmed
  if (!unknownStart && !chain.holds(report.lastMac, fields)) return { kind: 'forged', detail: `the mac of seq ${seq} does not fit` }
  return undefined
}
