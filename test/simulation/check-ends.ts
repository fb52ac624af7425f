import { at, overlaps, type Facts, type Violation } from './facts.js'

/** An answer that took longer than this and no fault explains it. */
const SLACK_MS = 500

/** So long after its begin a call that was not refused counts as granted. */
const LEARNING_MS = 1500
/** So long a request may be held until its turn. */
const HELD_MS = 2500

/** Promise 7: everything ends in time, and with a coded error if with any. */
export function * checkEnds (facts: Facts): Generator<Violation> {
  const { history } = facts
  const { requests, forgets, mints, settings, processes } = history
  for (const error of history.uncaught) yield { promise: '7 uncaught', what: error }

  const lockMs = settings.tooljetTimeoutMs + 5 * settings.redisTimeoutMs
  for (const request of [...requests, ...forgets]) {
    const { process, begin, end, code } = request
    const kind = 'name' in request ? 'request' : 'forget'
    const isCrashed = facts.process(process).crashedAt !== undefined
    if (code?.startsWith('not a coded error')) yield { promise: '7 error', what: `${kind} ${request.id}: ${code}` }
    if (end === undefined) {
      if (!isCrashed) yield { promise: '7 never', what: `${kind} ${request.id} has no end` }
      continue
    }
    const took = end - begin
    // With any fault: two locks' bounds (a holder that died, and one more), a mint, some waits for Redis, and its own stalls.
    const stalled = facts.process(process).stalls.filter(({ from, to }) => from <= end && to >= begin).reduce((sum, { from, to }) => sum + to - from, 0)
    const worst = 2 * lockMs + settings.tooljetTimeoutMs + 10 * settings.redisTimeoutMs + 2 * stalled
    if (took > worst) yield { promise: '7 bound', what: `${kind} ${request.id} took ${at(took)}` }

    // Without any fault but lost replies, and slow ones: the mints that it may have waited for, the waits for new
    // connections, one Redis timeout.
    const from = begin - lockMs - settings.redisTimeoutMs
    const isQuiet = !processes.some(({ name, crashedAt }) => (
      facts.wasBlind(name, from, end) || (crashedAt !== undefined && crashedAt >= from && crashedAt <= end)
    )) && !facts.lost(from, end) && !overlaps(history.freezes, from, end)
    if (!isQuiet) continue
    const minting = mints.filter((mint) => mint.user === request.user && mint.begin <= end && (mint.end ?? Infinity) >= begin)
    const minted = minting.reduce((sum, mint) => sum + Math.min(mint.end ?? Infinity, end) - Math.max(mint.begin, begin), 0)
    const cuts = processes.flatMap(({ traffic }) => traffic.cuts.filter(({ from, to }) => from <= end && to >= begin))
    const cut = cuts.reduce((sum, { from, to }) => sum + Math.min(to, end) - Math.max(from, begin), 0)
    // and the first turns, while it is not known whether ToolJet has a limit
    const others = mints.filter((mint) => mint.isMisspelled === true || mint.user !== request.user || mint.name !== ('name' in request ? request.name : undefined)).filter((mint) => mint.begin <= end && mint.begin >= begin - LEARNING_MS)
    const held = settings.mintLimit === 'auto' ? others.length * LEARNING_MS : typeof settings.mintLimit === 'object' ? HELD_MS : 0
    if (took > minted + cut + held + settings.redisTimeoutMs + SLACK_MS) {
      yield { promise: '7 slow', what: `${kind} ${request.id} took ${at(took)}: ${at(minted)} of minting, ${at(cut)} without a connection, no other fault` }
    }
  }
}
