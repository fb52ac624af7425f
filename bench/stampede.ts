import { Agent } from 'undici'
import { ask, asksOf, checkAnswer, firstUsers, type Ask } from './asks.js'
import { median } from './numbers.js'
import type { BenchRedis, World } from './world.js'

export interface StampedeResult {
  asks: number
  processes: number
  /** Of one mint, ms. */
  latencyMs: number
  rounds: number
  /** The most in a round. */
  mints: number
  /** Answers that say so: the most in a round. */
  saidMinted: number
  /** Until all had their answer, ms: the median. */
  allAnsweredMs: number
  /** The same asks once more, with the URL cached: what the asks as such take this machine. */
  allAnsweredAgainMs: number
}

/** Everybody asks for one user's URL of one app that nobody has, at once and of several processes; in each round for another user's. */
export function stampede (world: World, redis: BenchRedis): Promise<StampedeResult> {
  const { asks: count, processes, latencyMs, rounds } = world.plan.stampede
  return world.during(async (inner) => {
    const toolJet = await inner.startServer('tooljet', { toolJet: { latencyMs, mintsPerMinute: 0, minuteMs: 60_000 } })
    const settings = { redisUrl: redis.url, toolJetUrl: toolJet.url, prefix: 'stampede:' }
    const servers = await Promise.all(Array.from({ length: processes }, () => inner.startServer('ours', settings)))
    const dispatcher = new Agent({ connections: 256 })
    inner.onStop(() => dispatcher.destroy())

    const sourceFrom = async (server: number, each: Ask) => {
      const answer = await ask(servers[server]!.url, each, dispatcher)
      checkAnswer(each, answer)
      return answer.body.source
    }
    const everybody = async (each: Ask) => {
      const start = performance.now()
      const sources = await Promise.all(Array.from({ length: count }, (_, i) => sourceFrom(i % processes, each)))
      return { ms: performance.now() - start, saidMinted: sources.filter((source) => source === 'minted').length }
    }

    const asks = asksOf(firstUsers(processes + rounds))
    // connections are open, and each process has minted and answered before
    for (const [server, each] of asks.splice(0, processes).entries()) {
      await sourceFrom(server, each)
      await everybody(each)
    }

    const measured = []
    for (const each of asks) {
      const mintsBefore = await toolJet.figure('mints')
      const first = await everybody(each)
      measured.push({ first, mints: await toolJet.figure('mints') - mintsBefore, again: await everybody(each) })
    }
    return {
      asks: count,
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
