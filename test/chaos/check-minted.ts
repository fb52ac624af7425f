import { mintedEvents } from './check-audit.js'
import { groupBy } from './group.js'
import { pairOf, tell, type Answer, type MintRecord, type Records } from './records.js'
import { Row } from './row.js'
import type { Excused } from './windows.js'

/** Two clocks of one machine. */
const TOLERANCE_MS = 50

/**
 * Promise 3: exactly one answer, and one audit event, per mint says `minted`. What is given to anybody is judged whatever went wrong: only a
 * requester whose answer was lost with its connection or its process, or failed for want of Redis, takes its `minted` along. What is given
 * to nobody has its reasons where somebody is cut off, stands still or ends.
 */
export function mintedRows (records: Records, { redis, links, instances }: Excused): Row[] {
  const { answers, mints, lives, limits } = records
  const once = new Row('exactly one answer per mint says minted')
  const event = new Row('exactly one event per mint says url.minted')
  const events = mintedEvents(records)
  const given = groupBy(answers.filter(({ token }) => token !== undefined), ({ token }) => token!)
  const failed = groupBy(answers.filter(({ status, code }) => status === undefined || code === 'TOOLJET_EMBED_REDIS_DOWN'), pairOf)
  const mayBeOf = (mint: MintRecord) => ({ start, end }: Answer): boolean => start <= mint.at + TOLERANCE_MS && end >= mint.at - TOLERANCE_MS
  const at = ({ email, appId, at }: MintRecord): string => `the mint for ${email} ${appId.slice(0, 8)} at ${new Date(at).toISOString()}`

  for (const mint of mints) {
    if (mint.token === undefined || mint.endedAt === undefined) continue
    const answersOf = given.get(mint.token)
    const isUnanswered = failed.get(pairOf(mint))?.some(mayBeOf(mint)) === true
    if (answersOf === undefined) {
      const until = mint.endedAt + limits.redisTimeoutMs
      const isCalm = mint.endedAt - mint.at < limits.timeoutMs - 200 && ![redis, links, instances].some((windows) => windows.touch(mint.at, until))
      if (isCalm) once.judge(isUnanswered, () => `${at(mint)} was given to nobody`)
      continue
    }
    const minted = answersOf.filter(({ source }) => source === 'minted')
    once.judge(minted.length === 1 || (minted.length === 0 && isUnanswered), () => `${minted.length} of ${answersOf.length}: ${at(mint)}; ${(minted.length > 0 ? minted : answersOf.slice(0, 2)).map(tell).join(' and ')}`)

    const recorded = events.get(answersOf[0]!.urlId!) ?? 0
    const life = minted[0] && lives[minted[0].life]!
    // kill -9 takes the last events
    const mayBeLost = life === undefined ? isUnanswered : life.ending?.by === 'kill' || life.exit?.code !== 0
    event.judge(recorded === 1 || (recorded === 0 && mayBeLost), () => `${recorded} events of ${at(mint)}; ${tell(answersOf[0]!)}`)
  }
  return [once, event]
}
