import { at, type Facts, type Violation } from './facts.js'
import type { MintRecord, RequestRecord } from './history.js'

/** So long after a forget an instance must know of it, once it has had an answer of Redis. */
const KNOWN_MS = 5000

/** Something after which older URLs are not given any more. */
interface Forgetting {
  what: string
  process: string
  user: string
  /** `undefined`: all. */
  app: string | undefined
  begin: number
  end: number
}

/** Promise 9: what has been forgotten does not come back. */
export function * checkForgetting (facts: Facts): Generator<Violation> {
  const { forgets, requests } = facts.history
  const done: Forgetting[] = []
  for (const { id, process, user, app, begin, end, code } of forgets) {
    if (end === undefined) continue
    const forgetting = { what: `forget ${id}`, process, user, app: app?.app, begin, end }
    if (code === undefined) done.push(forgetting)
    else yield * checkRefused(facts, forgetting)
  }
  done.push(...denials(facts))

  for (const forgetting of done) {
    for (const request of requests) {
      const mint = older(facts, request, forgetting)
      if (mint === undefined || isExcused(facts, request, forgetting)) continue
      yield { promise: forgetting.what.startsWith('denial') ? '9 denial' : '9 forget', what: `request ${request.id} at ${request.process} got mint ${mint.id}, which began ${at(forgetting.begin - mint.begin)} before ${forgetting.what} at ${forgetting.process} (${at(forgetting.begin)} to ${at(forgetting.end)})` }
    }
  }
}

/** The mint behind the request's answer, if it is one that must not be given any more. */
function older (facts: Facts, request: RequestRecord, { user, app, begin, end }: Forgetting): MintRecord | undefined {
  if (request.user !== user || (app !== undefined && request.app !== app) || request.begin <= end) return undefined
  const mint = facts.mintOf(request)
  return mint !== undefined && mint.begin < begin ? mint : undefined
}

/** ToolJet's no counts as a forget of that app, once it has been answered: where it could be told to Redis. */
function denials (facts: Facts): Forgetting[] {
  return facts.history.mints.flatMap((mint) => {
    if (mint.outcome !== 'denied' || mint.end === undefined) return []
    const told = facts.history.requests.find((request) => (
      request.process === mint.process && request.user === mint.user && request.name === mint.name && request.code !== undefined && request.begin <= mint.begin && request.end !== undefined && request.end >= mint.end!
    ))
    if (told === undefined) return []
    return [{ what: `denial ${mint.id}`, process: mint.process, user: mint.user, app: mint.app, begin: mint.begin, end: told.end! }]
  })
}

function isExcused (facts: Facts, request: RequestRecord, forgetting: Forgetting): boolean {
  const { process, end = Infinity } = request
  const isDenial = forgetting.what.startsWith('denial')
  // A denial that could not be told to Redis binds those who know it: the process itself. A process that stood still
  // may have lost its right to tell.
  if (isDenial && process !== forgetting.process && facts.wasBlind(forgetting.process, forgetting.begin, forgetting.end)) return true
  // Redis lost it: one that knows of it writes it again, once it has Redis. Not if there is none that knows.
  const loss = facts.history.losses.find(({ at, to }) => at >= forgetting.begin && at <= end && to <= forgetting.end)
  if (loss !== undefined && process !== forgetting.process) {
    const { crashedAt = Infinity } = facts.process(forgetting.process)
    if (crashedAt <= loss.at + KNOWN_MS) return true
    if (request.begin <= loss.at + KNOWN_MS || facts.wasBlind(forgetting.process, loss.at, end)) return true
  }
  // One that was cut off before it could know may give it from its own memory, until it reaches Redis again.
  if (facts.history.settings.onRedisDown === 'fail' || process === forgetting.process) return false
  const hasHeard = (since: number): boolean => facts.process(process).traffic.replies.some(({ executedAt, at }) => executedAt >= since && at < request.begin)
  if (facts.hadTrouble(process, forgetting.begin, end)) return !hasHeard(forgetting.end + KNOWN_MS)
  // One that stood still took that for an outage, and has not heard anything of Redis since the forget: it could not know.
  return facts.wasBlind(process, forgetting.begin, request.begin) && !hasHeard(forgetting.end)
}

/** Without Redis `forget` rejects, and drops what this instance has: it has it no more until it reaches Redis again. */
function * checkRefused (facts: Facts, forgetting: Forgetting): Generator<Violation> {
  for (const request of facts.history.requests) {
    if (request.process !== forgetting.process) continue
    const mint = older(facts, request, forgetting)
    if (mint === undefined) continue
    const reached = facts.process(request.process).traffic.replies.some(({ at }) => at >= forgetting.begin && at <= request.end!)
    if (!reached) yield { promise: '9 refused', what: `request ${request.id} at ${request.process} got mint ${mint.id} from memory, after ${forgetting.what} had dropped it` }
  }
}
