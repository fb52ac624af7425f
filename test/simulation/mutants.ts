import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** A fault put into the plugin, which the checker has to find. */
export interface SimulationMutant {
  name: string
  /** What is in a file of plugin/, just once, and what takes its place. */
  changes: { file: string, from: string, to: string }[]
  /** The promise that it breaks, as the checker calls it. */
  breaks: string
  /** A seed from which on it is found soon: within the test's patience. Any other finds it, too, in the long run. */
  from: number
  why: string
}

const URL_CACHE = 'cache/url-cache.ts'
const FORGET_LOG = 'cache/forget-log.ts'

export const SIMULATION_MUTANTS: readonly SimulationMutant[] = [
  // what was seen of the first edition, by the numbers of its list
  {
    name: '1-own-lock',
    breaks: '7 slow',
    from: 40,
    why: 'an owner whose reply was lost waits for itself',
    changes: [
      { file: 'cache/scripts/claim.lua', from: "if lockOwner == owner then return reply('acquired', string.format('%.0f', since)) end", to: '' },
    ]
  },
  {
    name: '2-stored-twice',
    breaks: '3 nobody minted',
    from: 0,
    why: 'a store that is executed twice says that another one has stored, and its owner that it has reused',
    changes: [
      { file: 'cache/scripts/store.lua', from: "if fields['u' .. id] then return 'stored' end", to: "if fields['u' .. id] then return 'superseded' end" },
      { file: URL_CACHE, from: 'minted: true, validFor: isKept', to: 'minted: isStored, validFor: isKept' },
    ]
  },
  {
    name: '2-counted-twice',
    breaks: '6 too early',
    from: 75,
    why: 'a request whose reply was lost counts twice',
    changes: [
      { file: 'redis/scripts/count-and-look-up.lua', from: 'if found then return', to: 'if false then return' },
    ]
  },
  {
    name: '2-mints-twice',
    breaks: '6 too early',
    from: 0,
    why: 'a mint whose reply was lost counts twice',
    changes: [
      { file: 'access/scripts/mints.lua', from: "redis.call('ZADD', key, at, call)", to: "redis.call('ZADD', key, at, call .. at)" },
    ]
  },
  {
    name: '3-mint-under-way',
    breaks: '9 forget',
    from: 1680,
    why: 'a mint that began before a forget is stored after it',
    changes: [
      { file: 'cache/scripts/store.lua', from: "if isForgotten(names, tonumber(starts)) then return 'forgotten' end", to: '' },
    ]
  },
  {
    name: '3-other-name',
    breaks: '9',
    from: 140,
    why: 'what is forgotten by id is stored and reused by slug',
    changes: [
      { file: 'cache/scripts/user.lua', from: 'if name == forgotten then return true end', to: 'if name == forgotten then return name == names[1] end' },
      { file: 'cache/scripts/user.lua', from: 'return not isOfKind', to: 'return false' },
    ]
  },
  {
    name: '4-late-joiner',
    breaks: '9 forget',
    from: 0,
    why: 'a request made after a forget joins a mint that began before it',
    changes: [
      { file: URL_CACHE, from: 'if (joinedAt <= validFor && url.urlId', to: 'if (url.urlId' },
      { file: 'cache/loads.ts', from: 'if (name.startsWith(`${user} `)) this.#open.delete(name)', to: '' }, // eslint-disable-line no-template-curly-in-string
    ]
  },
  {
    name: '5-no-log',
    breaks: '9',
    from: 760,
    why: 'memory is served after a forget elsewhere',
    changes: [
      { file: FORGET_LOG, from: 'this.#known.set(user, kept)\n    this.#onForget(user, forget)', to: 'this.#known.set(user, [])' },
    ]
  },
  {
    name: '5-unsaved',
    breaks: '9',
    from: 30,
    why: 'what was minted without Redis is stored for the fleet after a forget',
    changes: [
      { file: 'cache/scripts/store.lua', from: 'if isForgotten(names', to: "if owner ~= '-' and isForgotten(names" },
      { file: FORGET_LOG, from: 'this.#known.set(user, kept)\n    this.#onForget(user, forget)', to: 'this.#known.set(user, [])' },
    ]
  },
  {
    name: '5-denial',
    breaks: '9 denial',
    from: 125,
    why: "ToolJet's no does not drop what is cached",
    changes: [
      { file: 'cache/scripts/fail.lua', from: "if denial == '1' then", to: 'if false then' },
    ]
  },
  {
    name: '6-own-date',
    breaks: '2',
    from: 0,
    why: 'the start of a URL is told by the date of the machine that minted',
    changes: [
      { file: 'redis/clock.ts', from: 'return Math.floor(moment + this.#bounds().least)', to: 'return Math.floor(this.#timers.date() - this.#timers.now() + moment)' },
      { file: URL_CACHE, from: 'Math.min(Math.max(lockedAt, this.#clock.earliest(calledAt)), this.#clock.latest(calledAt))', to: 'Math.max(0 * lockedAt, this.#clock.earliest(calledAt))' },
      // and what would show it
      { file: 'cache/scripts/user.lua', from: 'over(field, ends, starts > at)', to: 'over(field, ends)' },
      { file: 'cache/scripts/claim.lua', from: 'starts <= at and ', to: '' },
      { file: 'cache/store.ts', from: 'if (startsAt > at || endsAt <= at) return undefined', to: '' },
    ]
  },
  {
    name: '7-end-of-ttl',
    breaks: '2 expiresIn',
    from: 0,
    why: 'what is there is taken for alive',
    changes: [
      { file: 'cache/cached-url.ts', from: 'return (url.bornAt + lifeMsFor(app, url) - now) / 1000', to: 'return now && lifeMsFor(app, url) / 1000' },
    ]
  },
  {
    name: '7-put-back',
    breaks: '9 forget',
    from: 760,
    why: 'a URL that Redis brings back after a forget is served',
    changes: [
      { file: FORGET_LOG, from: 'return moments.length === 0 ? undefined : Math.max(...moments)', to: 'return moments.length >= 0 ? undefined : 0' },
      { file: FORGET_LOG, from: 'if (isLost) this.#addMissing(seen, reply)\n      else this.#addUnread(seen, reply)', to: '' },
    ]
  },
  // what it found after half a million schedules
  {
    name: 'late-batch-again',
    breaks: '4 twice',
    from: 1_269_371,
    why: 'a batch of events is sent again at once when its reply is that it came late, long after it was written',
    changes: [
      { file: 'audit/append.ts', from: 'await scripts.runOnce(APPEND', to: 'await scripts.run(APPEND' },
    ]
  },
  {
    name: 'place-in-the-way',
    breaks: '7 slow',
    from: 1_434_728,
    why: 'the place of one whose mint failed elsewhere stands before all others for a minute',
    changes: [
      { file: 'tooljet/scripts/settle.lua', from: 'putAside(user, ticket)', to: "redis.call('ZADD', DUE, string.format('%.0f', ticket.ends), user .. ' ' .. app)" },
    ]
  },

  // what the promises rest on besides
  {
    name: 'no-lock',
    breaks: '3 two at a time',
    from: 0,
    why: 'all mint who ask',
    changes: [
      { file: 'cache/scripts/claim.lua', from: "if lockOwner then return reply('wait', lockOwner) end", to: '' },
    ]
  },
  {
    name: 'old-over-new',
    breaks: '3 not the last',
    from: 300,
    why: 'an older URL takes the place of a younger one',
    changes: [
      { file: 'cache/scripts/store.lua', from: "if other and other >= tonumber(starts) then return 'superseded' end", to: '' },
    ]
  },
  {
    name: 'forget-keeps',
    breaks: '9 forget',
    from: 80,
    why: 'a forget drops nothing',
    changes: [
      { file: 'cache/scripts/user.lua', from: 'dropUrl(id)\n      dropped', to: 'dropped' },
    ]
  },
  {
    name: 'events-twice',
    breaks: '4 twice',
    from: 0,
    why: 'a batch whose reply was lost is appended twice',
    changes: [
      { file: 'audit/scripts/append.lua', from: 'if macOfRow[i] == mac then', to: 'if false then' },
      { file: 'audit/scripts/append.lua', from: "if written == 0 and mark ~= ''", to: 'if false' },
    ]
  },
  {
    name: 'events-lost',
    breaks: '4 lost',
    from: 0,
    why: 'a batch in doubt counts as written when anything has been written since',
    changes: [
      { file: 'audit/writer.ts', from: 'this.#shiftWritten(place)', to: 'this.#shiftWritten(macs.length)' },
      { file: 'audit/writer.ts', from: 'batch.count -= place', to: 'batch.count -= macs.length' },
    ]
  },
  {
    name: 'no-event',
    breaks: '4 answers',
    from: 0,
    why: 'a refusal leaves no event',
    changes: [
      { file: 'embed.ts', from: 'if (event !== undefined) audit.record(', to: "if (event !== undefined && event !== 'url.failed') audit.record(" },
    ]
  },
  {
    name: 'mint-limit-window',
    breaks: '6 mint limit',
    from: 0,
    why: 'a window sees more calls than ToolJet allows',
    changes: [
      { file: 'tooljet/scripts/queue.lua', from: 'callsIn(span() + (later or 0))', to: 'callsIn(window / 2 + (later or 0))' },
    ]
  },
  {
    name: 'mint-limit-refused',
    breaks: '6 mint limit',
    from: 850,
    why: 'a call that ToolJet refused does not count for a limit of calls',
    changes: [
      { file: 'tooljet/scripts/settle.lua', from: "outcome == 'refused' and configured == 'auto'", to: "outcome == 'refused'" },
    ]
  },
  {
    name: 'held-alone',
    breaks: '7 error',
    from: 2004977,
    why: 'a request that began without Redis is told to wait by the queue, and nobody waits',
    changes: [
      { file: URL_CACHE, from: 'if (!(error instanceof Held) || request.isInNoHurry === true) return', to: 'if (error !== undefined) return' },
    ]
  },
  {
    name: 'denial-told-late',
    breaks: '9 denial',
    from: 2004768,
    why: 'a denial that began without Redis is told to the fleet some time after its answer, though Redis is back',
    changes: [
      { file: URL_CACHE, from: 'if (!this.#breaker.isOpen) this.#forgets.writePendingSoon()', to: '' },
    ]
  },
  {
    name: 'mint-of-another-app',
    breaks: '6 mints',
    from: 2001599,
    why: 'a mint counts as that of another app which waits for its turn',
    changes: [
      { file: 'tooljet/spellings.ts', from: 'kept?.waiting?.app === mint.app ?', to: 'kept?.waiting !== undefined ?' },
    ]
  },
  {
    name: 'spelling-lost',
    breaks: 'identity spelling',
    from: 0,
    why: 'the spelling that ToolJet knows is not kept',
    changes: [
      { file: 'cache/scripts/store.lua', from: 'keepSpelling(spelled, life)\n', to: '' },
    ]
  },
]

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))
const NEEDED = ['package.json', 'tsconfig.json', 'plugin', 'example/redis.ts', 'example/debian-redis.ts', 'example/ways-to-redis.ts', 'test/chaos/random.ts', 'test/simulation']

/**
 * A copy of what the simulation needs, with a mutant in it.
 * @throws when there is no such mutant, or what it breaks is no longer there
 */
export function copyWith (mutant: SimulationMutant): { folder: string, remove: () => void } {
  const broken = new Map<string, string>()
  for (const { file, from, to } of mutant.changes) {
    const original = broken.get(file) ?? readFileSync(join(REPOSITORY, 'plugin', file), 'utf8')
    if (original.split(from).length !== 2) throw new Error(`stale mutant ${mutant.name}: its text is not in plugin/${file} just once: ${from}`)
    broken.set(file, original.replace(from, () => to))
  }
  const folder = mkdtempSync(join(tmpdir(), 'tooljet-embed-simulation-'))
  for (const path of NEEDED) cpSync(join(REPOSITORY, path), join(folder, path), { recursive: true })
  symlinkSync(join(REPOSITORY, 'node_modules'), join(folder, 'node_modules'))
  for (const [file, text] of broken) writeFileSync(join(folder, 'plugin', file), text)
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) }
}

/** @throws for a name that there is not */
export function mutantOf (name: string): SimulationMutant {
  const mutant = SIMULATION_MUTANTS.find((one) => one.name === name)
  if (mutant === undefined) throw new Error(`there is no mutant ${name}, but ${SIMULATION_MUTANTS.map(({ name }) => name).join(', ')}`)
  return mutant
}
