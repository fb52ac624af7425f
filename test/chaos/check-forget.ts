import { groupBy } from './group.js'
import { pairOf, tell, type MintRecord, type Records } from './records.js'
import { Row } from './row.js'
import type { Excused } from './windows.js'

/** CONTRACT.md, 4.9: from then on an instance knows of a forget, if it had any answer of Redis. */
const KNOWN_AFTER_MS = 5000
const DENIALS = new Set(['USER_NOT_FOUND', 'ACCESS_DENIED', 'APP_NOT_FOUND'].map((name) => `TOOLJET_EMBED_${name}`))

/**
 * Promise 9: after a forget, or a denial by ToolJet, no request that begins later is given a URL whose mint call began before it. An
 * instance that is cut off may do so, as long as it is and until it can know; what others do is then judged all the same.
 */
export function forgetRows ({ answers, forgets, mints, lives, limits }: Records, { redisOf }: Excused): Row[] {
  const forgotten = new Row('a URL whose mint began before a forget is not given after it')
  const mintOf = new Map(mints.flatMap((mint): [string, MintRecord][] => (mint.token === undefined ? [] : [[mint.token, mint]])))
  const ended = groupBy([
    ...forgets.filter(({ status }) => status === 200).map((forget) => ({ ...forget, by: `forgotten by life ${forget.life}` })),
    ...answers.filter(({ code }) => DENIALS.has(code!)).map((answer) => ({ ...answer, by: `denied by life ${answer.life}` })),
  ], pairOf)
  for (const answer of answers) {
    const mint = mintOf.get(answer.token ?? '')
    if (mint === undefined) continue
    for (const { start, end, by } of ended.get(pairOf(answer)) ?? []) {
      if (end >= answer.start || answer.start - end > limits.patExpiry * 1000) continue
      const cutOff = redisOf(lives[answer.life]!)
      const mayNotKnow = cutOff.touch(start, answer.end) && cutOff.leftOf(end + KNOWN_AFTER_MS, Math.max(answer.start, end + KNOWN_AFTER_MS)) === 0
      if (!mayNotKnow) forgotten.judge(mint.at >= start, () => `${tell(answer)}; ${by} from ${new Date(start).toISOString()} to ${new Date(end).toISOString()}, its mint began at ${new Date(mint.at).toISOString()}`)
    }
  }
  return [forgotten]
}
