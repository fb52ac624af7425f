import { join } from 'node:path'
import { asksOf, checkAnswers, firstUsers, NUMBER } from './asks.js'
import { applyLoad } from './load.js'
import { measure, type Figures } from './measure.js'
import { medians, rotated } from './numbers.js'
import { progress } from './progress.js'
import { sequentialRoundTrips } from './round-trips.js'
import type { Settings } from './servers/serve.js'
import type { BenchRedis, World } from './world.js'
import type { ServerProcess } from './server-process.js'

export interface Contestant {
  name: string
  title: string
  /** A file of `servers/`. */
  server: string
  settings?: Partial<Settings>
  /** Each request asks for another app. */
  misses?: boolean
}

export const CONTESTANTS: readonly Contestant[] = [
  { name: 'limit', title: 'limit', server: 'limit' },
  { name: 'hit', title: 'ours, hit by route', server: 'ours' },
  { name: 'host-client', title: "ours, hit, the host's client", server: 'ours', settings: { hostClient: {} } },
  { name: 'auto-pipelining', title: "ours, hit, the host's client with auto-pipelining", server: 'ours', settings: { hostClient: { enableAutoPipelining: true } } },
  { name: 'decorator', title: 'ours, hit by decorator', server: 'ours', settings: { byDecorator: true } },
  { name: 'required', title: "ours, hit, `delivery: 'required'`", server: 'ours', settings: { options: { audit: { delivery: 'required' } } } },
  { name: 'unlimited', title: 'ours, hit, `rateLimit: false`', server: 'ours', settings: { options: { rateLimit: false } } },
  { name: 'miss', title: 'ours, miss', server: 'ours', misses: true },
  { name: 'by-hand', title: 'by hand', server: 'by-hand' },
  { name: 'composed', title: 'composed', server: 'composed' },
  { name: 'snippet', title: "ToolJet's snippet", server: 'snippet' },
]

export interface ContestantResult {
  name: string
  title: string
  median: Figures
  rounds: Figures[]
  /** Waits for Redis, one after the other, before the answer. */
  sequentialRoundTrips: number
}

const NEW_APP_EACH_TIME = `00000000-0000-4000-8000-${NUMBER}`

/**
 * Everybody's server runs all the time, and one after the other is loaded, round by round.
 * @param profiles a folder for CPU profiles
 */
export async function compare (world: World, redis: BenchRedis, toolJet: ServerProcess, contestants: readonly Contestant[], profiles?: string): Promise<ContestantResult[]> {
  const { plan } = world
  const load = { connections: plan.connections, folder: world.folder }
  const entries = await Promise.all(contestants.map(async (contestant) => {
    const asks = asksOf(firstUsers(plan.users), contestant.misses ? NEW_APP_EACH_TIME : undefined)
    const settings = { redisUrl: redis.url, toolJetUrl: toolJet.url, prefix: `${contestant.name}:`, ...contestant.settings }
    const profile = profiles && join(profiles, `${contestant.name}.cpuprofile`)
    const server = await world.startServer(contestant.server, settings, profile)
    return { contestant, settings, server, redis, toolJet, asks, rounds: [] as Figures[] }
  }))

  for (const { server, asks } of entries) {
    await checkAnswers(server.url, asks) // and everyone's URL is cached
    if (plan.warmUpSeconds > 0) await applyLoad({ url: server.url, asks, seconds: plan.warmUpSeconds, ...load })
  }
  for (let round = 0; round < plan.rounds; round++) {
    for (const entry of rotated(entries, round)) {
      entry.rounds.push(await measure(entry, { seconds: plan.seconds, ...load }))
      progress(`round ${round + 1} of ${plan.rounds}: ${entry.contestant.title}`)
    }
  }

  const roundTrips = await Promise.all(entries.map(({ contestant, settings, asks }) => sequentialRoundTrips(world, redis, contestant.server, settings, asks)))
  return entries.map(({ contestant: { name, title }, rounds }, i) => (
    { name, title, median: medians(rounds), rounds, sequentialRoundTrips: roundTrips[i]! }
  ))
}
