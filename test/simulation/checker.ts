import { checkAudit } from './check-audit.js'
import { checkEnds } from './check-ends.js'
import { checkForgetting } from './check-forgetting.js'
import { checkLife } from './check-life.js'
import { checkLimits } from './check-limits.js'
import { checkMints } from './check-mints.js'
import { Facts, type Violation } from './facts.js'
import type { History } from './history.js'

/** Whether a run kept the promises that can be seen from outside. */
export function check (history: History): Violation[] {
  const facts = new Facts(history)
  return [...checkEnds(facts), ...checkLife(facts), ...checkMints(facts), ...checkLimits(facts), ...checkForgetting(facts), ...checkAudit(facts)]
}
