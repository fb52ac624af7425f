import { at, type Facts, type Violation } from './facts.js'

/** Promises 1 and 2: whose URL it is, and how long it is given. */
export function * checkLife (facts: Facts): Generator<Violation> {
  const { requests, mints, settings } = facts.history
  const lifeMs = settings.patExpiry * 1000
  for (const request of requests) {
    const { id, answer, end } = request
    if (answer === undefined || end === undefined) continue
    const mint = facts.mintOf(request)
    if (mint === undefined || mint.user !== request.user || mint.app !== request.app) {
      yield { promise: '1', what: `request ${id} got a URL that was not minted for it` }
      continue
    }
    const left = mint.begin + lifeMs - end
    // no excuse: not a wrong date, not an outage, not old data, not a process that stood still
    if (left < 0) yield { promise: '2 expired', what: `request ${id} got the URL of mint ${mint.id}, which was over for ${at(-left)}` }
    // whole seconds are rounded down
    else if (answer.expiresIn * 1000 > left + 1) yield { promise: '2 expiresIn', what: `request ${id} was told that mint ${mint.id} lasts ${answer.expiresIn} s, it lasts ${at(left)}` }

    if (answer.source !== 'reused' || left >= settings.minRemaining * 1000) continue
    // It may have had enough left when Redis was asked, and the answer taken its time.
    const slack = settings.redisTimeoutMs
    if (left >= settings.minRemaining * 1000 - slack || facts.stoodStill(request.process, request.begin, end)) continue
    // Promise 8: better than an error, where ToolJet could not mint; its pause and its probing after failures go on
    // for others. Also where nobody could be asked for a turn to mint.
    const isRecent = (to: number | undefined): boolean => (to ?? Infinity) >= request.begin - 70_000
    const couldNotMint = mints.some((one) => one.begin <= end && isRecent(one.end) && one.outcome !== 'minted')
    // One that waited for this mint had no other choice than its fruit.
    const waited = (mint.end ?? Infinity) >= request.begin
    // Limits refuse a mint, too.
    const isLimited = requests.some((one) => one.user === request.user && one.begin <= end && (one.end ?? Infinity) >= request.begin - settings.timeWindow) && settings.mints < 20
    if (couldNotMint || waited || isLimited || hadNoTurn(facts, request.begin, end) || facts.wasBlind(request.process, request.begin, end)) continue
    // A holder that died, or stands still, keeps all others from minting until its lock's end.
    const holderIsGone = facts.processes.some(({ name, crashedAt = Infinity }) => crashedAt <= end || facts.wasBlind(name, request.begin - 20_000, end))
    if (holderIsGone) continue
    yield { promise: '2 minRemaining', what: `request ${id} reused mint ${mint.id} with ${at(left)} left` }
  }
}

/** ToolJet's limit, as it is set or was learnt, may have been used up, by what Redis has lost, too. */
function hadNoTurn (facts: Facts, begin: number, end: number): boolean {
  const { settings: { mintLimit }, mints } = facts.history
  if (mintLimit === false) return false
  const reach = mintLimit === 'auto' ? Infinity : mintLimit.timeWindow + 30_000
  if (facts.lost(begin - reach, end)) return true
  return mints.some((one) => one.begin <= end && one.begin >= begin - reach && (mintLimit !== 'auto' || one.outcome === 'paused'))
}
