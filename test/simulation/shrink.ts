import { check } from './checker.js'
import type { Violation } from './facts.js'
import type { Plan } from './plan.js'
import { runSchedule, type Outcome } from './schedule.js'
import type { RealRedis } from './server.js'

export interface Failure {
  plan: Plan
  taken: Record<string, string | number>
  violations: Violation[]
}

/** Runs one schedule, and says what was broken. */
export async function judge (plan: Plan, real: RealRedis, options: { replay?: Record<string, string | number>, tells?: boolean } = {}): Promise<Outcome & { violations: Violation[] }> {
  const outcome = await runSchedule(plan, real, options)
  return { ...outcome, violations: check(outcome.history) }
}

/**
 * Leaves out of a failing schedule whatever it fails without: items, and choices other than as usual. What is left
 * breaks the same promise.
 */
export async function shrink (failure: Failure, real: RealRedis): Promise<Failure> {
  const wanted = new Set(failure.violations.map(({ promise }) => promise))
  let best = failure
  const fails = async (plan: Plan, replay: Record<string, string | number>): Promise<boolean> => {
    const { violations, taken } = await judge(plan, real, { replay })
    const same = violations.filter(({ promise }) => wanted.has(promise))
    if (same.length === 0) return false
    best = { plan, taken, violations: same }
    return true
  }
  for (let size = Infinity; ;) {
    const before = best.plan.items.length + Object.keys(best.taken).length
    await withoutMost(() => Object.keys(best.taken), (names) => fails(best.plan, Object.fromEntries(Object.entries(best.taken).filter(([name]) => !names.has(name)))))
    await withoutMost(() => best.plan.items, (items) => fails({ ...best.plan, items: best.plan.items.filter((item) => !items.has(item)) }, best.taken))
    if (best.plan.dates.some((date) => date !== 0)) await fails({ ...best.plan, dates: best.plan.dates.map(() => 0) }, best.taken)
    size = best.plan.items.length + Object.keys(best.taken).length
    if (size === before) return best
  }
}

/** Tries to leave out all, then halves, quarters … down to one by one. */
async function withoutMost<T> (all: () => T[], failsWithout: (some: Set<T>) => Promise<boolean>): Promise<void> {
  for (let size = all().length; size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = 0; from < all().length;) {
      // what is left out makes room for the next
      if (!await failsWithout(new Set(all().slice(from, from + size)))) from += size
    }
  }
}
