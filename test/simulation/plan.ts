import type { MintLimit } from '../../plugin/tooljet/mint-limit.js'
import type { Random } from '../chaos/random.js'
import type { ClientKind, Mishaps } from './client.js'
import { randomFor } from './decisions.js'
import { APPS, type Settings } from './history.js'
import type { TooljetFaults } from './tooljet.js'

/** Something that happens from outside; `at`: virtual ms. */
export type Item = { at: number } & (
  | { what: 'start', instance: number }
  | { what: 'crash', instance: number }
  | { what: 'request', instance: number, user: string, app: number, replaces?: true }
  /** Without an app: all of the user's. */
  | { what: 'forget', instance: number, user: string, app?: number }
  | { what: 'stall', instance: number, ms: number }
  | { what: 'date', instance: number, by: number }
  | { what: 'cut', instance: number }
  /** Nothing of its connection arrives for a while, in either direction. */
  | { what: 'hold', instance: number, ms: number }
  /** Its connection is cut, and there is no other for a while. */
  | { what: 'refuse', instance: number, ms: number }
  | { what: 'freeze', ms: number }
  | { what: 'wipe' }
  /** Redis is as it was that many ms before. */
  | { what: 'failover', loses: number }
  | { what: 'revoke' | 'grant', user: string, app: number }
)

/** All that a schedule is made of, but for the choices on its way. */
export interface Plan {
  seed: number
  settings: Settings
  clients: ClientKind[]
  /** Of each instance's machine, ms. */
  dates: number[]
  mishaps: Mishaps
  tooljet: TooljetFaults
  items: Item[]
}

const NONE: Mishaps = { slow: 0, verySlow: 0, cutBefore: 0, cutAfter: 0, longAway: 0, crash: 0, stall: 0 }

/** What the schedule of a seed is to be. Few kinds of faults in one schedule: they would hide each other. */
export function planFor (seed: number): Plan {
  const random = randomFor(seed, 'plan')
  const instances = random.pick([1, 2, 2, 3, 3, 4])
  const patExpiry = random.chance(0.02) ? 300 : random.pick([15, 30, 30, 60]) // each instance asks Redis every two seconds: a long life is dear
  const settings: Settings = {
    patExpiry,
    minRemaining: random.pick([0, patExpiry / 10]),
    ...(random.chance(0.3) ? { max: random.between(2, 6), mints: random.between(1, 3) } : { max: 60, mints: random.pick([4, 20]) }),
    timeWindow: random.pick([10_000, 30_000]),
    mintLimit: mintLimitFor(seed),
    hasCapitals: randomFor(seed, 'spelling').chance(0.15),
    onRedisDown: random.chance(0.8) ? 'serve' : 'fail',
    redisTimeoutMs: 1000,
    tooljetTimeoutMs: 10_000,
  }
  const maybe = (share: number, value: () => number): number => (random.chance(share) ? value() : 0)
  const mishaps: Mishaps = random.chance(0.25)
    ? { ...NONE, slow: maybe(0.5, () => 0.3) }
    : {
        slow: maybe(0.5, () => 0.2),
        verySlow: maybe(0.25, () => 0.03),
        cutBefore: maybe(0.3, () => 0.05),
        cutAfter: maybe(0.5, () => random.pick([0.05, 0.15])),
        longAway: maybe(0.3, () => 0.3),
        crash: maybe(0.15, () => 0.03),
        stall: maybe(0.2, () => 0.04),
      }
  const tooljet: TooljetFaults = {
    slow: maybe(0.5, () => 0.4), tooSlow: maybe(0.2, () => 0.2), denies: maybe(0.25, () => 0.3), pauses: maybe(0.2, () => 0.2), fails: maybe(0.2, () => 0.2),
  }
  return {
    seed,
    settings,
    clients: Array.from({ length: instances }, () => random.pick([
      { offlineQueue: true, maxRetries: 20 }, { offlineQueue: true, maxRetries: 20 }, { offlineQueue: true, maxRetries: 1e9 }, { offlineQueue: false, maxRetries: 20 },
    ])),
    dates: Array.from({ length: instances }, () => (random.chance(0.3) ? random.pick([600_000, -7_200_000, 86_400_000]) : 0)),
    mishaps,
    tooljet,
    items: itemsOf(random, instances, settings),
  }
}

/** Of numbers of its own, as each setting that is younger than the others. */
function mintLimitFor (seed: number): MintLimit {
  const random = randomFor(seed, 'mint limit')
  if (random.chance(0.6)) return random.chance(0.8) ? 'auto' : false
  return { max: random.between(1, 4), timeWindow: random.pick([5000, 20_000, 60_000]) }
}

function itemsOf (random: Random, instances: number, { patExpiry, timeWindow, mints }: Settings): Item[] {
  const items: Item[] = []
  // a user who wears out the limit of mints
  const isWasteful = mints < 4 && random.chance(0.5)
  const users = ['ann@test', 'bob@test'].slice(0, random.pick([1, 1, 2]))
  const apps = random.pick([[0], [0, 1], [0, 1], [0, 1, 2]])
  const kinds = random.shuffled(['forget', 'forget', 'forget', 'cut', 'hold', 'refuse', 'freeze', 'wipe', 'failover', 'crash', 'stall', 'date', 'revoke', 'absent'] as const).slice(0, random.pick([0, 1, 1, 2, 2, 3]))
  const isThere = (kind: typeof kinds[number]): boolean => kinds.includes(kind)

  const begin: number[] = []
  for (let instance = 0; instance < instances; instance++) {
    begin[instance] = random.chance(0.8) ? 0 : random.between(1, 20_000)
    items.push({ at: begin[instance]!, what: 'start', instance })
    if (isThere('absent') && random.chance(0.6)) items.push({ at: begin[instance]!, what: 'refuse', instance, ms: random.pick([3000, 15_000, 60_000]) })
  }
  const gap = (): number => random.pick(isWasteful
    ? [20, 200, 1000, timeWindow / 8, timeWindow / 4]
    : [0, 0, 1, 2, 5, 20, 60, 200, 1000, 1000, 3000, 8000, random.pick([timeWindow, patExpiry * 300, patExpiry * 950, patExpiry * 1000 + 5])])
  const instance = (): number => random.between(0, instances - 1)
  let at = 5
  const requests = random.between(6, 20)
  for (let i = 0; i < requests; i++) {
    at += gap()
    items.push({ at, what: 'request', instance: instance(), user: random.pick(users), app: random.pick(apps), ...(random.chance(isWasteful ? 0.7 : 0.12) && { replaces: true as const }) })
    if (isThere('forget') && random.chance(0.25)) {
      const then = at + random.pick([0, 0, 1, 5, 30, 300, 3000])
      items.push({ at: then, what: 'forget', instance: instance(), user: random.pick(users), ...(random.chance(0.8) && { app: random.pick(apps) }) })
      if (isThere('failover') && random.chance(0.7)) items.push({ at: then + random.pick([5, 50, 500, 2500]), what: 'failover', loses: random.pick([100, 1000, 5000]) })
    }
    if (!random.chance(0.15)) continue
    const then = at + random.pick([0, 1, 3, 10, 100, 1000])
    const long = random.pick([500, 1500, 5000, 20_000])
    switch (random.pick(kinds.length > 0 ? kinds : ['forget'])) {
      case 'cut': items.push({ at: then, what: 'cut', instance: instance() }); break
      case 'hold': items.push({ at: then, what: 'hold', instance: instance(), ms: long }); break
      case 'refuse': items.push({ at: then, what: 'refuse', instance: instance(), ms: long }); break
      case 'freeze': items.push({ at: then, what: 'freeze', ms: Math.min(long, 5000) }); break
      case 'wipe': items.push({ at: then, what: 'wipe' }); break
      case 'failover': items.push({ at: then, what: 'failover', loses: random.pick([5, 100, 1000, 5000]) }); break
      case 'stall': items.push({ at: then, what: 'stall', instance: instance(), ms: random.pick([900, 3000, 16_000, 40_000]) }); break
      case 'date': items.push({ at: then, what: 'date', instance: instance(), by: random.pick([600_000, -600_000, 7_200_000]) }); break
      case 'crash': {
        const crashed = instance()
        items.push({ at: then, what: 'crash', instance: crashed }, { at: then + long, what: 'start', instance: crashed })
        break
      }
      case 'revoke': {
        const whose = { user: random.pick(users), app: random.pick(apps) }
        items.push({ at: then, what: 'revoke', ...whose })
        if (random.chance(0.5)) items.push({ at: then + random.pick([1000, 40_000]), what: 'grant', ...whose })
        break
      }
    }
  }
  // what became of it, when all is well again
  if (random.chance(0.5)) {
    at += random.pick([6000, 12_000, 40_000])
    for (const user of users) {
      for (let each = 0; each < instances; each++) items.push({ at: at++, what: 'request', instance: each, user, app: random.pick(apps) })
    }
  }
  return items.sort((one, other) => one.at - other.at)
}

export function nameOfInstance (instance: number): string {
  return 'ABCDEFGH'[instance]!
}

export function showItem (item: Item): string {
  const { at: _, what, ...rest } = item
  const parts = Object.entries(rest).map(([name, value]) => (
    name === 'instance' ? `at ${nameOfInstance(value as number)}` : name === 'app' ? APPS[value as number]!.name : `${name} ${String(value)}`
  ))
  return `${what} ${parts.join(' ')}`
}
