import { planFor, nameOfInstance } from './plan.js'
import type { RealRedis } from './server.js'
import { judge, shrink } from './shrink.js'

/**
 * The shortest schedule of a seed that breaks what the whole one breaks, in lines to read.
 * @param promise only this one; default: the first that is broken
 * @returns no lines for a seed that breaks nothing
 */
export async function explain (seed: number, real: RealRedis, promise?: string): Promise<string[]> {
  const plan = planFor(seed)
  const { taken, violations } = await judge(plan, real)
  const wanted = violations.filter((violation) => violation.promise === (promise ?? violations[0]!.promise))
  if (wanted.length === 0) return []
  const short = await shrink({ plan, taken, violations: wanted }, real)
  const again = await judge(short.plan, real, { replay: short.taken, tells: true })
  const { settings, dates, clients } = short.plan
  const instances = new Set(short.plan.items.flatMap((item) => ('instance' in item ? [item.instance] : [])))
  return [
    `seed ${seed}`,
    `  ${Object.entries(settings).map(([name, value]) => `${name} ${value}`).join(', ')}`,
    ...[...instances].sort().map((i) => `  ${nameOfInstance(i)}: date wrong by ${dates[i]! / 1000} s, ${clients[i]!.offlineQueue ? `commands wait for a connection, ${clients[i]!.maxRetries} retries` : 'commands fail without a connection'}`),
    `  not as usual: ${Object.entries(short.taken).map(([name, value]) => `${name} ${value}`).join('; ') || 'nothing'}`,
    '',
    ...withoutRepeats(again.lines.filter((line) => !NOTHING_NEW.test(line))),
    '',
    ...short.violations.map(({ promise, what }) => `promise ${promise} is broken: ${what}`),
  ]
}

/** Every two seconds, of each instance. */
const NOTHING_NEW = /forgets-read \[.*\] → \[\d+,"ok"\]$/

/** One who waits asks again and again: what comes in the same form more than thrice in a row is shown at its begin and end. */
function withoutRepeats (lines: string[]): string[] {
  const formOf = (line: string): string => line.slice(10).replaceAll(/\d+/g, '')
  const kept: string[] = []
  for (let i = 0; i < lines.length;) {
    let end = i
    while (end + 1 < lines.length && formOf(lines[end + 1]!) === formOf(lines[i]!)) end++
    kept.push(lines[i]!)
    if (end - i > 2) kept.push(`${''.padStart(9)} … ${end - i - 1} more of these`)
    else kept.push(...lines.slice(i + 1, end))
    if (end > i) kept.push(lines[end]!)
    i = end + 1
  }
  return kept
}
