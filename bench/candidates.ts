import { join } from 'node:path'
import { requestsOf, checkAnswers, firstUsers, NUMBER } from './requests.js'
import { applyLoad } from './load.js'
import { measure, type Figures } from './measure.js'
import { median, medians, rotated } from './statistics.js'
import { progress } from './progress.js'
import { sequentialRoundTrips } from './round-trips.js'
import type { Settings } from './servers/serve.js'
import type { BenchRedis, Environment } from './environment.js'
import type { ServerProcess } from './server-process.js'

export interface Candidate {
  name: string
  title: string
  /** A file of `servers/`. */
  server: string
  settings?: Partial<Settings>
  /** Each request names another app, so that each is a miss. */
  misses?: boolean
  /** On a Redis Cluster of three masters. */
  inCluster?: boolean
}

export const CANDIDATES: readonly Candidate[] = [
  { name: 'baseline', title: 'baseline', server: 'baseline' },
  { name: 'hit', title: 'plugin, hit by route', server: 'plugin' },
  { name: 'host-client', title: "plugin, hit, the host's client", server: 'plugin', settings: { hostClient: {} } },
  { name: 'auto-pipelining', title: "plugin, hit, the host's client with auto-pipelining", server: 'plugin', settings: { hostClient: { enableAutoPipelining: true } } },
  { name: 'decorator', title: 'plugin, hit by decorator', server: 'plugin', settings: { byDecorator: true } },
  { name: 'required', title: "plugin, hit, `delivery: 'required'`", server: 'plugin', settings: { options: { audit: { delivery: 'required' } } } },
  { name: 'unlimited', title: 'plugin, hit, `rateLimit: false`', server: 'plugin', settings: { options: { rateLimit: false } } },
  { name: 'miss', title: 'plugin, miss', server: 'plugin', misses: true },
  { name: 'cluster-baseline', title: 'baseline, Cluster', server: 'baseline', inCluster: true },
  { name: 'cluster', title: 'plugin, hit, Cluster', server: 'plugin', settings: { hostClient: { enableAutoPipelining: true } }, inCluster: true },
  { name: 'by-hand', title: 'by hand', server: 'by-hand' },
  { name: 'composed', title: 'composed', server: 'composed' },
  { name: 'snippet', title: "ToolJet's snippet", server: 'snippet' },
]

export interface CandidateResult {
  name: string
  title: string
  median: Figures
  rounds: Figures[]
  /** Over one connection, ms. */
  aloneP50: number
  /** How often a request waits for Redis, one wait after the other, before it is answered; not measured in a Cluster. */
  sequentialRoundTrips?: number
}

const NEW_APP_EACH_TIME = `00000000-0000-4000-8000-${NUMBER}`

/**
 * All servers run all the time, and are loaded one after the other, round by round.
 * @param profiles a folder for CPU profiles
 */
export async function compare (environment: Environment, redis: BenchRedis, toolJet: ServerProcess, candidates: readonly Candidate[], profiles?: string): Promise<CandidateResult[]> {
  const { plan, folder } = environment
  const load = { connections: plan.connections, folder }
  const cluster = candidates.some(({ inCluster }) => inCluster) ? await environment.startCluster() : []
  const entries = await Promise.all(candidates.map(async (candidate) => {
    const requests = requestsOf(firstUsers(plan.users), candidate.misses ? NEW_APP_EACH_TIME : undefined)
    const masters = candidate.inCluster ? cluster : [redis]
    const settings = { redisUrl: redis.url, ...(candidate.inCluster && { clusterPorts: cluster.map(({ port }) => port) }), toolJetUrl: toolJet.url, prefix: `${candidate.name}:`, ...candidate.settings }
    const profile = profiles && join(profiles, `${candidate.name}.cpuprofile`)
    const server = await environment.startServer(candidate.server, settings, profile)
    return { candidate, settings, server, masters, toolJet, requests, rounds: [] as Figures[], alone: [] as number[] }
  }))

  for (const { server, requests } of entries) {
    await checkAnswers(server.url, requests) // from now on every user's URL is cached
    if (plan.warmUpSeconds > 0) await applyLoad({ url: server.url, requests, seconds: plan.warmUpSeconds, ...load })
  }
  for (let round = 0; round < plan.rounds; round++) {
    for (const entry of rotated(entries, round)) {
      entry.rounds.push(await measure(entry, { seconds: plan.seconds, ...load }))
      entry.alone.push((await applyLoad({ url: entry.server.url, requests: entry.requests, seconds: plan.seconds, connections: 1, folder })).p50)
      progress(`round ${round + 1} of ${plan.rounds}: ${entry.candidate.title}`)
    }
  }

  return Promise.all(entries.map(async ({ candidate: { name, title, server, inCluster }, settings, requests, rounds, alone }) => ({
    name,
    title,
    median: medians(rounds),
    rounds,
    aloneP50: median(alone),
    ...(!inCluster && { sequentialRoundTrips: await sequentialRoundTrips(environment, redis, server, settings, requests) }),
  })))
}
