import { at, type Facts, type Violation } from './facts.js'
import type { MintRecord, RequestRecord } from './history.js'

/** Promise 6: limits for the fleet, and ToolJet's pauses. */
export function * checkLimits (facts: Facts): Generator<Violation> {
  const { requests } = facts.history
  for (const user of new Set(requests.map((request) => request.user))) {
    const own = requests.filter((request) => request.user === user)
    yield * checkMax(facts, own)
    yield * checkTooEarly(facts, own)
    yield * checkMintsOf(facts, user)
  }
  yield * checkPauses(facts)
  yield * checkMintLimit(facts)
}

/** No window of the given length sees more calls than are allowed, while Redis is there for all and has lost nothing. */
function * checkMintLimit (facts: Facts): Generator<Violation> {
  const { settings: { mintLimit }, mints } = facts.history
  if (typeof mintLimit !== 'object') return
  const { max, timeWindow } = mintLimit
  for (const [i, last] of mints.entries()) {
    const window = mints.slice(0, i + 1).filter(({ begin }) => begin > last.begin - timeWindow)
    if (window.length <= max) continue
    const from = window[0]!.begin - timeWindow
    if (isExcused(facts, from, last.begin) || window.some(({ process, openSince, begin }) => facts.hadTrouble(process, openSince, begin))) continue
    yield { promise: '6 mint limit', what: `mints ${window.map(({ id }) => id).join(', ')} within ${at(last.begin - window[0]!.begin)}, ${max} are allowed in ${at(timeWindow)}` }
    return
  }
}

/** Some process that counted had no Redis, or Redis lost its counts: then each one counts for itself. */
function isExcused (facts: Facts, from: number, to: number): boolean {
  return facts.lost(from, to) || facts.processes.some(({ name }) => facts.wasBlind(name, from, to))
}

/**
 * At most `max` in one fixed window. When a window begins is not seen from outside, but for one: the first request
 * since longer than a window begins one, somewhere between its begin and its end. Judged are those that fell into it.
 */
function * checkMax (facts: Facts, own: RequestRecord[]): Generator<Violation> {
  const { max, timeWindow } = facts.history.settings
  const endOf = ({ end }: RequestRecord): number => end ?? Infinity
  for (const [i, { begin, user }] of own.entries()) {
    if (own.slice(0, i).some((earlier) => countedUntil(facts, earlier) + timeWindow >= begin)) continue
    const admitted = own.slice(i).filter((request) => endOf(request) < begin + timeWindow && request.code !== 'TOOLJET_EMBED_RATE_LIMITED')
    if (admitted.length > max && !isExcused(facts, begin, begin + timeWindow)) {
      yield { promise: '6 max', what: `${admitted.length} requests of ${user} from ${at(begin)} on within one window, ${max} are allowed` }
    }
  }
}

/** Until when a request may have been counted: what waits in Redis's buffers is executed until its deadline, answered or not. */
function countedUntil (facts: Facts, { process, begin, end = Infinity }: RequestRecord): number {
  return facts.hadTrouble(process, begin, end) ? Math.max(end, begin + facts.history.settings.redisTimeoutMs + 2000) : end
}

/** One request counts once: nobody is refused who cannot have used up anything. No excuse. */
function * checkTooEarly (facts: Facts, own: RequestRecord[]): Generator<Violation> {
  const { max, mints: maxMints, timeWindow, minRemaining } = facts.history.settings
  const { mints } = facts.history
  for (const request of own) {
    if (request.code !== 'TOOLJET_EMBED_RATE_LIMITED' || request.end === undefined) continue
    const { end } = request
    // it may share the answer of one that began before it, in a process that stood still meanwhile
    const shared = own.filter((one) => one.process === request.process && one.name === request.name && one.begin < request.begin && (one.end ?? Infinity) >= request.begin && facts.stoodStill(one.process, one.begin, request.begin))
    const begin = Math.min(request.begin, ...shared.map((one) => one.begin))
    // what was counted in the window that this one fell into was asked at most a window before
    const asked = own.filter((one) => one.begin <= end && countedUntil(facts, one) >= begin - timeWindow)
    if (asked.length > max) continue
    // or its mint was refused, or that of one for which it waited
    // or it was counted and not made: its process stood still after it, past its lock's end, and another one minted
    const minting = asked.filter((one) => one.answer === undefined || one.answer.source === 'minted' || facts.stoodStill(one.process, one.begin, one.end ?? Infinity))
    // (a mint is counted before its call, by a process that may stand still in between)
    const calls = mints.filter((mint) => mint.user === request.user && mint.openSince <= end && mint.begin >= begin - timeWindow - 20_000)
    if (Math.max(minting.length, calls.length + 1) > maxMints) continue
    // or it waits for as many turns already, each of which is kept for a while (its URL may have had some seconds left)
    const places = new Set(own.filter(({ begin, answer }) => begin <= end && (answer === undefined || answer.expiresIn < minRemaining)).map(({ name }) => name))
    if (facts.history.settings.mintLimit !== false && places.size > maxMints) continue
    yield { promise: '6 too early', what: `request ${request.id} is refused after ${asked.length} requests (${max} are allowed) and ${calls.length} mints (${maxMints})` }
  }
}

/** At most `mints` in any window. A mint is counted between its request's begin and the call's begin, and once, be it of two spellings. */
function * checkMintsOf (facts: Facts, user: string): Generator<Violation> {
  const { mints: max, timeWindow } = facts.history.settings
  const own = facts.history.mints.filter((mint) => mint.user === user)
  const calls = own.filter((mint) => !mint.isMisspelled)
  const countedFrom = (call: MintRecord): number => {
    const before = own.findLast((mint) => mint.name === call.name && mint.begin < call.begin)
    return before?.isMisspelled ? before.openSince : call.openSince
  }
  for (const [i, last] of calls.entries()) {
    const window = calls.slice(0, i + 1).filter((call) => countedFrom(call) > last.begin - timeWindow)
    if (window.length <= max) continue
    if (isExcused(facts, window[0]!.openSince, last.begin)) continue
    yield { promise: '6 mints', what: `mints ${window.map(({ id }) => id).join(', ')} of ${user} within ${at(last.begin - window[0]!.begin)}, ${max} are allowed` }
    return
  }
}

/** After ToolJet's 429 has been answered, no request that begins before the pause's end calls ToolJet. */
function * checkPauses (facts: Facts): Generator<Violation> {
  const { mints, requests } = facts.history
  for (const paused of mints) {
    if (paused.pauseMs === undefined || paused.end === undefined) continue
    const told = requests.find((request) => request.process === paused.process && request.user === paused.user && request.name === paused.name && (request.end ?? 0) >= paused.end! && request.begin <= paused.begin)
    if (told?.end === undefined) continue
    for (const mint of mints) {
      if (mint.openSince <= told.end || mint.begin >= paused.end + paused.pauseMs) continue
      // Excused: one of the two has no Redis to tell by, or it has lost the pause. A process knows its own pause anyway.
      if (facts.lost(paused.begin, mint.begin)) continue
      if (facts.wasBlind(paused.process, paused.begin, told.end) || facts.wasBlind(mint.process, mint.openSince, mint.begin)) continue
      yield { promise: '6 pause', what: `mint ${mint.id} began ${at(mint.begin - paused.end)} after ToolJet had asked ${paused.process} for a pause of ${at(paused.pauseMs)}` }
    }
  }
}
