import { format } from './statistics.js'
import type { CandidateResult } from './candidates.js'
import type { Results } from './results.js'
import { checks } from './checks.js'

/** The tables of a run, in Markdown. */
export function report (results: Results): string {
  const { date, quick, machine: { cores, model, versions, load, loadAverage }, seconds } = results
  return [
    `${date.slice(0, 10)}, ${cores} cores (${model}), load average ${format(loadAverage)} before the run, load by ${load}, ${Math.round(seconds)} s in all${quick ? ', **quick: these figures say nothing**' : ''}.`,
    `${Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(', ')}.`,
    '',
    ...ofCandidates(results),
    ...ofStampede(results),
    ...ofCacheSize(results),
    ...ofAudit(results),
    ...ofLoginStorm(results),
    ...ofChecks(results),
  ].join('\n').trimEnd() + '\n'
}

function ofCandidates ({ candidates, plan }: Results): string[] {
  if (candidates === undefined) return []
  const ratioOf = ({ name, median: { cpu } }: CandidateResult): string => {
    const baseline = candidates.find((one) => one.name === (name.startsWith('cluster') ? 'cluster-baseline' : 'baseline'))
    return baseline === undefined ? '' : format(cpu / baseline.median.cpu)
  }
  return section(`${plan.connections} connections, ${plan.users} users, medians of ${plan.rounds} rounds of ${plan.seconds} s`, table(
    ['', 'req/s', 'p50 ms', 'p99 ms', 'alone p50 ms', 'CPU µs', '× baseline', 'Redis commands', 'Redis reads', 'sequential round trips', 'Redis CPU µs', 'mints'],
    candidates.map((candidate) => {
      const { title, median, aloneP50, sequentialRoundTrips } = candidate
      return [
        title, format(median.requestsPerSecond), format(median.p50), format(median.p99), format(aloneP50), format(median.cpu), ratioOf(candidate),
        format(median.redisCommands), format(median.redisReads), sequentialRoundTrips === undefined ? '' : String(Math.round(sequentialRoundTrips)), format(median.redisCpu), format(median.mints),
      ]
    })
  ))
}

function ofStampede ({ stampede }: Results): string[] {
  if (stampede === undefined) return []
  const { requests, processes, latencyMs, rounds, mints, saidMinted, allAnsweredMs, allAnsweredAgainMs } = stampede
  return section('Cache stampede', [
    `${format(requests)} requests for one URL that is not cached, to ${processes} processes; a mint takes ${latencyMs} ms: ${mints} mint, ${saidMinted} answer with source \`minted\`,`,
    `all are answered after ${format(allAnsweredMs / 1000)} s. The same requests with the URL cached take ${format(allAnsweredAgainMs / 1000)} s on this machine.`,
    `Medians of ${rounds} rounds, each with another user.`,
  ])
}

function ofCacheSize ({ cacheSize }: Results): string[] {
  if (cacheSize === undefined) return []
  const rows = cacheSize.sizes.map(({ urls, median }) => [
    format(urls), format(median.requestsPerSecond), format(median.p50), format(median.p99), format(median.cpu), format(median.redisCpu),
  ])
  return section('A hit among many cached URLs', [
    ...table(['cached URLs', 'req/s', 'p50 ms', 'p99 ms', 'CPU µs', 'Redis CPU µs'], rows),
    '',
    `A cached URL takes ${format(cacheSize.bytesPerUrl)} bytes by MEMORY USAGE, under both names of its app.`,
    `Redis grew by ${format(cacheSize.grownPerUrl)} bytes for each, hash tables included.`,
  ])
}

function ofAudit ({ audit }: Results): string[] {
  if (audit === undefined) return []
  const { writeCpu: { append, pipelined, oneByOne }, bytesPerEvent: { stream, indexes, total, bare, sparse } } = audit
  return section(`The audit log, ${format(audit.events)} events of ${format(audit.users)} users`, [
    ...table(['writing an event', 'Redis CPU µs', '× bare', 'bytes'], [
      ["the plugin's batches of 20, with indexes and counters", format(append), format(append / pipelined), `${format(total)} (stream ${format(stream)}, besides ${format(indexes)})`],
      ['bare `XADD`s, 20 in a pipeline', format(pipelined), '1', format(bare)],
      ['bare `XADD`s, one by one', format(oneByOne), format(oneByOne / pipelined), ''],
    ]),
    '',
    `Indexes and counters take ${format(sparse)} bytes for an event where 5,000 users have one event each.`,
    '',
    ...table(['query', 'events', 'p50 ms', 'p99 ms', 'inside Redis µs'], audit.queries.map(({ query, events, p50, p99, server }) => [
      query, format(events), format(p50), format(p99), format(server),
    ])),
  ])
}

function ofLoginStorm ({ loginStorm }: Results): string[] {
  if (loginStorm === undefined) return []
  const { users, instances, within, runs } = loginStorm
  const minutes = (ms: number): string => format(ms / 60_000)
  const percent = (share: number): string => `${format(100 * share)} %`
  return section('Login storm', [
    `${format(users)} users sign in within ${minutes(within)} minutes at ${instances} instances, ToolJet mints 10 a minute; in virtual time.`,
    '',
    ...table(['', 'pairs served in the wrong order', 'calls that ToolJet refused', 'slots used', 'wait p50, minutes', 'p95', 'last', 'requests of a waiting user p50', 'most'], runs.map(({ title, result }) => [
      title, percent(result.inversions), format(result.refused), percent(result.slotsUsed), minutes(result.wait.p50), minutes(result.wait.p95), minutes(result.wait.last), format(result.requests.p50), format(result.requests.most),
    ])),
  ])
}

function ofChecks (results: Results): string[] {
  const rows = checks(results).map(({ criterion, measured, reached }) => [criterion, measured, reached ? 'reached' : '**not reached**'])
  return rows.length === 0 ? [] : section('Checks', table(['bound', 'measured', ''], rows))
}

function section (title: string, lines: string[]): string[] {
  return [`### ${title}`, '', ...lines, '']
}

function table (head: string[], rows: string[][]): string[] {
  const widths = head.map((_, column) => Math.max(3, ...[head, ...rows].map((row) => row[column]!.length)))
  const line = (cells: string[]): string => `| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join(' | ')} |`
  return [line(head), `| ${widths.map((width, i) => (i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`, ...rows.map(line)]
}
