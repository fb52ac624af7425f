import { Agent } from 'undici'
import { send, requestsOf, checkAnswer, firstUsers, type UserRequest } from './requests.js'
import { median } from './statistics.js'
import type { BenchRedis, Environment } from './environment.js'

export interface StampedeResult {
  requests: number
  processes: number
  /** Of one mint, ms. */
  latencyMs: number
  rounds: number
  /** Mint calls: the most in a round. */
  mints: number
  /** Answers with source `minted`: the most in a round. */
  saidMinted: number
  /** Time until all were answered, ms: the median. */
  allAnsweredMs: number
  /** The same requests once more, with the URL cached: what the requests as such cost this machine. */
  allAnsweredAgainMs: number
}

/** A cache stampede: many requests at once, to several processes, for one URL that is not cached; in each round another user's. */
export function stampede (environment: Environment, redis: BenchRedis): Promise<StampedeResult> {
  const { requests: count, processes, latencyMs, rounds } = environment.plan.stampede
  return environment.withScope(async (inner) => {
    const toolJet = await inner.startServer('tooljet', { toolJet: { latencyMs, mintsPerMinute: 0, minuteMs: 60_000 } })
    const settings = { redisUrl: redis.url, toolJetUrl: toolJet.url, prefix: 'stampede:' }
    const servers = await Promise.all(Array.from({ length: processes }, () => inner.startServer('plugin', settings)))
    const dispatcher = new Agent({ connections: 256 })
    inner.onStop(() => dispatcher.destroy())

    const sourceFrom = async (server: number, request: UserRequest) => {
      const answer = await send(servers[server]!.url, request, dispatcher)
      checkAnswer(request, answer)
      return answer.body.source
    }
    const sendAll = async (request: UserRequest) => {
      const start = performance.now()
      const sources = await Promise.all(Array.from({ length: count }, (_, i) => sourceFrom(i % processes, request)))
      return { ms: performance.now() - start, saidMinted: sources.filter((source) => source === 'minted').length }
    }

    const requests = requestsOf(firstUsers(processes + rounds))
    // connections are open, and each process has minted and answered before
    for (const [server, request] of requests.splice(0, processes).entries()) {
      await sourceFrom(server, request)
      await sendAll(request)
    }

    const measured = []
    for (const request of requests) {
      const mintsBefore = await toolJet.figure('mints')
      const first = await sendAll(request)
      measured.push({ first, mints: await toolJet.figure('mints') - mintsBefore, again: await sendAll(request) })
    }
    return {
      requests: count,
      processes,
      latencyMs,
      rounds,
      mints: Math.max(...measured.map(({ mints }) => mints)),
      saidMinted: Math.max(...measured.map(({ first }) => first.saidMinted)),
      allAnsweredMs: median(measured.map(({ first }) => first.ms)),
      allAnsweredAgainMs: median(measured.map(({ again }) => again.ms)),
    }
  })
}
