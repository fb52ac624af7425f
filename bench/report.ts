import { short } from './numbers.js'
import type { Results } from './results.js'
import { verdicts } from './verdicts.js'

/** The tables of a run, in Markdown. */
export function report (results: Results): string {
  const { date, quick, machine: { cores, model, versions, load, loadAverage }, seconds } = results
  return [
    `${date.slice(0, 10)}, ${cores} cores (${model}), load average ${short(loadAverage)} before the run, load by ${load}, ${Math.round(seconds)} s in all${quick ? ', **quick: these figures say nothing**' : ''}.`,
    `${Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(', ')}.`,
    '',
    ...ofContestants(results),
    ...ofStampede(results),
    ...ofGrowth(results),
    ...ofAudit(results),
    ...ofMonday(results),
    ...ofVerdicts(results),
  ].join('\n').trimEnd() + '\n'
}

function ofContestants ({ contestants, plan }: Results): string[] {
  if (contestants === undefined) return []
  const limit = contestants.find(({ name }) => name === 'limit')?.median.cpu
  return section(`${plan.connections} connections, ${plan.users} users, medians of ${plan.rounds} rounds of ${plan.seconds} s`, table(
    ['', 'req/s', 'p50 ms', 'p99 ms', 'CPU µs', '× limit', 'Redis commands', 'Redis reads', 'sequential round trips', 'Redis CPU µs', 'mints'],
    contestants.map(({ title, median, sequentialRoundTrips }) => [
      title, short(median.requestsPerSecond), short(median.p50), short(median.p99), short(median.cpu),
      limit === undefined ? '' : short(median.cpu / limit),
      short(median.redisCommands), short(median.redisReads), String(Math.round(sequentialRoundTrips)), short(median.redisCpu), short(median.mints),
    ])
  ))
}

function ofStampede ({ stampede }: Results): string[] {
  if (stampede === undefined) return []
  const { asks, processes, latencyMs, rounds, mints, saidMinted, allAnsweredMs, allAnsweredAgainMs } = stampede
  return section('Stampede', [
    `${short(asks)} asks for one URL that nobody has, of ${processes} processes; a mint takes ${latencyMs} ms: ${mints} mint, ${saidMinted} answer says so,`,
    `all are answered after ${short(allAnsweredMs / 1000)} s. The same asks with the URL cached take ${short(allAnsweredAgainMs / 1000)} s on this machine.`,
    `Medians of ${rounds} rounds, each with another user.`,
  ])
}

function ofGrowth ({ growth }: Results): string[] {
  if (growth === undefined) return []
  const rows = growth.sizes.map(({ urls, median }) => [
    short(urls), short(median.requestsPerSecond), short(median.p50), short(median.p99), short(median.cpu), short(median.redisCpu),
  ])
  return section('A hit among many cached URLs', [
    ...table(['cached URLs', 'req/s', 'p50 ms', 'p99 ms', 'CPU µs', 'Redis CPU µs'], rows),
    '',
    `A cached URL takes ${short(growth.bytesPerUrl)} bytes by MEMORY USAGE, under both names of its app.`,
    `Redis grew by ${short(growth.grownPerUrl)} bytes for each, hash tables included.`,
  ])
}

function ofAudit ({ audit }: Results): string[] {
  if (audit === undefined) return []
  const { writeCpu: { append, pipelined, oneByOne }, bytesPerEvent: { stream, indexes, total, bare, sparse } } = audit
  return section(`The audit log, ${short(audit.events)} events of ${short(audit.users)} users`, [
    ...table(['writing an event', 'Redis CPU µs', '× bare', 'bytes'], [
      ["the plugin's batches of 20, with indexes and counters", short(append), short(append / pipelined), `${short(total)} (stream ${short(stream)}, besides ${short(indexes)})`],
      ['bare `XADD`s, 20 in a pipeline', short(pipelined), '1', short(bare)],
      ['bare `XADD`s, one by one', short(oneByOne), short(oneByOne / pipelined), ''],
    ]),
    '',
    `Indexes and counters take ${short(sparse)} bytes for an event where 5,000 users have one event each.`,
    '',
    ...table(['query', 'events', 'p50 ms', 'p99 ms', 'inside Redis µs'], audit.queries.map(({ query, events, p50, p99, server }) => [
      query, short(events), short(p50), short(p99), short(server),
    ])),
  ])
}

function ofMonday ({ monday }: Results): string[] {
  if (monday === undefined) return []
  const { users, instances, within, mornings } = monday
  const minutes = (ms: number): string => short(ms / 60_000)
  const percent = (share: number): string => `${short(100 * share)} %`
  return section('Monday morning', [
    `${short(users)} users come within ${minutes(within)} minutes to ${instances} instances, ToolJet mints 10 a minute; in virtual time.`,
    '',
    ...table(['', 'pairs served in the wrong order', 'calls that ToolJet refused', 'slots used', 'wait p50, minutes', 'p95', 'last', 'requests of one who waits p50', 'most'], mornings.map(({ way, result }) => [
      way, percent(result.inversions), short(result.refused), percent(result.slotsUsed), minutes(result.wait.p50), minutes(result.wait.p95), minutes(result.wait.last), short(result.requests.p50), short(result.requests.most),
    ])),
  ])
}

function ofVerdicts (results: Results): string[] {
  const rows = verdicts(results).map(({ criterion, measured, reached }) => [criterion, measured, reached ? 'reached' : '**not reached**'])
  return rows.length === 0 ? [] : section('Verdict', table(['bound', 'measured', ''], rows))
}

function section (title: string, lines: string[]): string[] {
  return [`### ${title}`, '', ...lines, '']
}

function table (head: string[], rows: string[][]): string[] {
  const widths = head.map((_, column) => Math.max(3, ...[head, ...rows].map((row) => row[column]!.length)))
  const line = (cells: string[]): string => `| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join(' | ')} |`
  return [line(head), `| ${widths.map((width, i) => (i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`, ...rows.map(line)]
}
