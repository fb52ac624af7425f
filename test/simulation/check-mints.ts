import { at, type Facts, type Violation } from './facts.js'
import type { MintRecord } from './history.js'

/** Promise 3: one mint at a time, the last one is the cached one, and one answer per mint says `minted`. And option `identity`: the spelling that worked is kept. */
export function * checkMints (facts: Facts): Generator<Violation> {
  const { history } = facts
  const { mints, requests } = history

  const endOf = (mint: MintRecord): number => Math.min(mint.end ?? history.end, facts.process(mint.process).crashedAt ?? Infinity)
  // Excused: those whose process could not reach Redis from when it asked for the lock to the mint's end, for then it
  // goes on by itself; those that stood still, past their lock; locks that Redis has lost.
  const isExcused = (mint: MintRecord, to: number): boolean => (
    facts.wasBlind(mint.process, mint.openSince, to) || facts.lost(mint.openSince, to)
  )
  for (const [i, one] of mints.entries()) {
    for (const other of mints.slice(i + 1)) {
      if (one.user !== other.user || one.name !== other.name || other.begin >= endOf(one)) continue
      const to = Math.max(endOf(one), other.begin)
      if (isExcused(one, to) || isExcused(other, to)) continue
      yield { promise: '3 two at a time', what: `mint ${other.id} at ${other.process} began while mint ${one.id} at ${one.process} was under way` }
    }
  }

  for (const mint of mints) {
    if (mint.outcome !== 'minted' || mint.end === undefined) continue
    const answers = requests.filter((request) => facts.mintOf(request) === mint)
    const minted = answers.filter(({ answer }) => answer!.source === 'minted')
    if (minted.length > 1) yield { promise: '3 minted twice', what: `requests ${minted.map(({ id }) => id).join(', ')} say that they minted ${mint.id}` }
    if (minted.some(({ process }) => process !== mint.process)) yield { promise: '3 minted elsewhere', what: `mint ${mint.id} was not made by request ${minted[0]!.id}` }
    if (minted.length > 0) continue
    // Excused: a process that crashed, or whose lock had passed to another one meanwhile; where Redis is down and
    // nobody is served without it. An answer must have been given at all, unless the URL was over when it came.
    const { crashedAt } = facts.process(mint.process)
    const end = mint.end + 10_000
    if (crashedAt !== undefined && crashedAt <= end) continue
    if (facts.wasBlind(mint.process, mint.openSince, end) || facts.lost(mint.openSince, end)) continue
    if (mint.end >= mint.begin + history.settings.patExpiry * 1000) continue
    yield { promise: '3 nobody minted', what: `no answer says that it minted ${mint.id}${answers.length > 0 ? `, requests ${answers.map(({ id }) => id).join(', ')} reused it` : ''}` }
  }

  yield * checkLast(facts)
  yield * checkSpelling(facts)
}

/** Once ToolJet has minted for a user, it is asked in the same spelling from then on, for as long as it is kept. */
function * checkSpelling (facts: Facts): Generator<Violation> {
  const { settings: { patExpiry }, mints, requests } = facts.history
  const toldAt = (mint: MintRecord): number => Math.min(...requests.map((request) => (facts.mintOf(request) === mint ? request.end! : Infinity)))
  for (const mint of mints) {
    if (!mint.isMisspelled) continue
    const known = mints.find((one) => one.user === mint.user && toldAt(one) < mint.openSince && one.begin > mint.begin - patExpiry * 1000)
    if (known === undefined) continue
    // Excused: it could not be kept, or Redis lost it, or the one who asks cannot ask Redis.
    if (facts.wasBlind(known.process, known.openSince, mint.openSince) || facts.lost(known.openSince, mint.begin) || facts.wasBlind(mint.process, mint.openSince, mint.begin)) continue
    yield { promise: 'identity spelling', what: `mint ${mint.id} is in a spelling that ToolJet does not know, though mint ${known.id} had found the right one` }
  }
}

/** Once a mint has been answered as `minted`, none that ended before it began is given to those who ask later. */
function * checkLast (facts: Facts): Generator<Violation> {
  const { requests } = facts.history
  const asMinted = requests.filter(({ answer }) => answer?.source === 'minted').map((request) => ({ request, mint: facts.mintOf(request) })).filter(({ mint }) => mint !== undefined)
  for (const request of requests) {
    const older = facts.mintOf(request)
    if (older === undefined) continue
    const newer = asMinted.find(({ request: { end }, mint }) => (
      mint!.user === older.user && mint!.name === older.name && request.name === older.name && mint!.begin >= (older.end ?? Infinity) && end! < request.begin
    ))
    if (newer === undefined) continue
    // Excused: the newer one could not be stored, or Redis lost it, or the one who asks cannot ask Redis.
    const from = newer.mint!.openSince
    if (facts.wasBlind(newer.mint!.process, from, newer.request.end!)) continue
    if (facts.lost(from, request.end!) || facts.wasBlind(request.process, from, request.end!)) continue
    yield { promise: '3 not the last', what: `request ${request.id} got mint ${older.id}, though mint ${newer.mint!.id} was answered at ${at(newer.request.end!)}` }
  }
}
