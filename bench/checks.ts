import type { Figures } from './measure.js'
import { median, format } from './statistics.js'
import type { Results } from './results.js'

/** A bound, and whether this run keeps it. */
export interface Check {
  criterion: string
  measured: string
  reached: boolean
}

export function checks (results: Results): Check[] {
  return [...ofCandidates(results), ...ofStampede(results), ...ofCacheSize(results), ...ofAudit(results)]
}

function ofCandidates ({ candidates = [] }: Results): Check[] {
  const of = (name: string) => candidates.find((candidate) => candidate.name === name)
  const ratio = (name: string, other: string, figure: keyof Figures): number | undefined => {
    const [one, another] = [of(name)?.median, of(other)?.median]
    return one && another && one[figure] / another[figure]
  }
  const cpu = (what: string, name: string, other: string, most: number): Check[] => atMost(
    `server CPU of ${what} at most ${most.toFixed(2)} × *${of(other)?.title ?? other}*`, ratio(name, other, 'cpu'), most, ' ×'
  )
  const throughput = (other: string, least: number): Check[] => atLeast(
    `throughput of a hit at least ${least} × *${of(other)?.title ?? other}*`, ratio('hit', other, 'requestsPerSecond'), least, ' ×'
  )
  const alone = of('hit') && of('baseline') && of('hit')!.aloneP50 / of('baseline')!.aloneP50
  return [
    ...cpu('a hit', 'hit', 'baseline', 1.3),
    ...cpu("a hit with the host's client", 'host-client', 'baseline', 1.35),
    ...cpu("a hit with the host's client and auto-pipelining", 'auto-pipelining', 'baseline', 1.35),
    ...cpu('a hit in a Cluster', 'cluster', 'cluster-baseline', 1.6),
    ...cpu("a hit with `delivery: 'required'`", 'required', 'baseline', 1.55),
    ...throughput('baseline', 0.75),
    ...throughput('composed', 1),
    ...throughput('by-hand', 1.3),
    ...throughput('snippet', 4),
    ...atMost('p50 of a hit over one connection at most 1.1 × *baseline*', alone, 1.1, ' ×'),
    ...atMost('Redis CPU of a hit at most 12 µs', of('hit')?.median.redisCpu, 12, ' µs'),
    ...atMost("at most 2 sequential round trips to Redis on a hit, `delivery: 'buffered'`", rounded(of('hit')?.sequentialRoundTrips), 2),
    ...atMost("at most 3 sequential round trips to Redis on a hit, `delivery: 'required'`", rounded(of('required')?.sequentialRoundTrips), 3),
  ]
}

function ofStampede ({ stampede }: Results): Check[] {
  if (stampede === undefined) return []
  const { mints, latencyMs, allAnsweredMs } = stampede
  return [
    ...atMost('the stampede mints once', mints, 1),
    ...atMost(`the stampede is answered within 2 × one mint's ${latencyMs} ms + 1 s`, allAnsweredMs / 1000, (2 * latencyMs + 1000) / 1000, ' s'),
  ]
}

function ofCacheSize ({ cacheSize }: Results): Check[] {
  if (cacheSize === undefined) return []
  const { sizes, bytesPerUrl } = cacheSize
  const range = `from ${format(sizes[0]!.urls)} to ${format(sizes.at(-1)!.urls)} cached URLs`
  // ratios within a round: from one to the next the machine's pace changes more than what is measured
  const spread = (figure: keyof Figures): number => {
    const paces = sizes[0]!.rounds.map((_, i) => median(sizes.map(({ rounds }) => rounds[i]![figure])))
    const values = sizes.map(({ rounds }) => median(rounds.map((round, i) => round[figure] / paces[i]!)))
    return (Math.max(...values) / Math.min(...values) - 1) * 100
  }
  return [
    ...atMost(`server CPU of a hit flat within 10 % ${range}`, spread('cpu'), 10, ' %'),
    ...atMost(`p99 of a hit flat within 10 % ${range}`, spread('p99'), 10, ' %'),
    ...atMost('at most 750 bytes of Redis per cached URL', bytesPerUrl, 750, ' bytes'),
  ]
}

function ofAudit ({ audit }: Results): Check[] {
  const query = (start: string): number | undefined => {
    const server = audit?.queries.findLast(({ query }) => query.startsWith(start))?.server
    return server === undefined ? undefined : server / 1000
  }
  return [
    ...atMost('writing an audit event at most 3.5 × a bare XADD', audit && audit.writeCpu.append / audit.writeCpu.pipelined, 3.5),
    ...atMost('at most 120 bytes of indexes and counters per audit event', audit && Math.max(audit.bytesPerEvent.indexes, audit.bytesPerEvent.sparse), 120, ' bytes'),
    ...below("one user's newest 100 audit events under 5 ms of Redis", query("one user's newest"), 5, ' ms'),
    ...below('totals by event since 30d under 5 ms of Redis', query('totals by event'), 5, ' ms'),
    ...below('totals by hour,app since 7d under 5 ms of Redis', query('totals by hour,app since 7d'), 5, ' ms'),
  ]
}

function atMost (criterion: string, value: number | undefined, bound: number, unit = ''): Check[] {
  return check(criterion, value, (value) => value <= bound, unit)
}

function atLeast (criterion: string, value: number | undefined, bound: number, unit = ''): Check[] {
  return check(criterion, value, (value) => value >= bound, unit)
}

function below (criterion: string, value: number | undefined, bound: number, unit = ''): Check[] {
  return check(criterion, value, (value) => value < bound, unit)
}

function check (criterion: string, value: number | undefined, holds: (value: number) => boolean, unit: string): Check[] {
  return value === undefined ? [] : [{ criterion, measured: format(value) + unit, reached: holds(value) }]
}

/** A count that is measured by times. */
function rounded (value: number | undefined): number | undefined {
  return value === undefined ? undefined : Math.round(value)
}
