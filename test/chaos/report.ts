import { takenByKill } from './check-audit.js'
import type { Memory } from './life.js'
import type { Records } from './records.js'
import type { Judged } from './row.js'
import { excusedBy, unexplainedDowns } from './windows.js'

export interface Told {
  seed: number
  ms: number
  faults: string[]
  /** On purpose, one by one; those of killed clients are not counted. */
  lostReplies: number
  records: Records
  judged: Judged[]
  memory: { afterMs: number, instances: { slot: number, memory: Memory }[] }[]
  /** The longest that this process, with the load, the proxies and the stand-in, was busy at a stretch. */
  longestLagMs: number
}

/** The result, for people. */
export function report ({ seed, ms, faults, lostReplies, records, judged, memory, longestLagMs }: Told): string {
  const { answers, mints, lives, epochs, forgets, logged } = records
  const answered = answers.filter(({ status }) => status !== undefined)
  const times = answered.map(({ start, end }) => end - start).toSorted((a, b) => a - b)
  const at = (share: number): string => `${Math.round(times[Math.floor(share * (times.length - 1))] ?? 0)} ms`
  const kinds = answers.map(({ status, code, source, failure }) => (status === undefined ? `none: ${failure}` : `${status} ${code ?? source}`))
  const violations = judged.reduce((sum, row) => sum + row.violations, 0)
  const excused = excusedBy(records)
  const [from, to] = [answers[0]?.start ?? 0, answers.at(-1)?.end ?? 0]
  return [
    '',
    table(['promise', 'judged', 'violations'], judged.map(({ promise, count, violations }) => [promise, count, violations])),
    ...judged.flatMap(({ promise, examples }) => (examples.length === 0 ? [] : ['', `${promise}:`, ...examples.map((example) => `  - ${example}`)])),
    '',
    table(['answers', 'number'], [...countBy(kinds)]),
    '',
    table(['faults', 'number'], [...countBy(faults)]),
    '',
    table(['memory', 'instance', 'heapUsed MB', 'RSS MB'], memory.flatMap(({ afterMs, instances }) => instances.map(({ slot, memory: { heapUsed, rss } }) => [`after ${Math.round(afterMs / 1000)} s`, slot, mb(heapUsed), mb(rss)]))),
    '',
    `seed ${seed}, ${Math.round(ms / 1000)} s: ${answered.length} answers (${Math.round(answered.length / ms * 1000)} a second; p50 ${at(0.5)}, p99 ${at(0.99)}, longest ${at(1)}), ${mints.length} mint calls, ${mints.filter(({ token }) => token !== undefined).length} of them minted, ${forgets.length} forgets`,
    `${lives.length} lives of instances; Redis forgot everything ${epochs.length - 1} times; ${lostReplies} replies of scripts were lost one by one; ${logged.length} events left to the log; kill -9 took the events of ${takenByKill(records)} answers`,
    `Redis was taken for away ${lives.reduce((sum, { redisDown }) => sum + redisDown.length, 0)} times, ${unexplainedDowns(records)} of them without a fault of the plan (a busy machine; the longest lag of this process was ${Math.round(longestLagMs)} ms)`,
    `What is judged with Redis undisturbed was judged in ${seconds(excused.redis.leftOf(from, to))} of these seconds, what is judged in calm times in ${seconds(excused.any.leftOf(from, to))}`,
    `${violations} violations`,
  ].join('\n')
}

function table (head: string[], rows: (string | number)[][]): string {
  const lines = [head, ...rows.map((row) => row.map(String))]
  const widths = head.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)))
  return lines.map((line) => line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ')).join('\n')
}

function countBy (things: string[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const thing of things) counts.set(thing, (counts.get(thing) ?? 0) + 1)
  return new Map([...counts].toSorted(([, a], [, b]) => b - a))
}

function seconds (ms: number): string {
  return (ms / 1000).toFixed(1)
}

function mb (bytes: number): string {
  return (bytes / 1024 / 1024).toFixed(1)
}
