import { Agent } from 'undici'
import { ask, asksOf, checkAnswer } from './asks.js'
import type { BenchRedis, World } from './world.js'

export interface StampedeResult {
  asks: number
  processes: number
  /** Of one mint, ms. */
  latencyMs: number
  mints: number
  /** Answers that say so. */
  saidMinted: number
  /** Until all had their answer, ms. */
  allAnsweredMs: number
  /** The same asks once more, with the URL cached: what the asks as such take this machine. */
  allAnsweredAgainMs: number
}

/** Everybody asks for one user's URL of one app that nobody has, at once and of several processes. */
export function stampede (world: World, redis: BenchRedis): Promise<StampedeResult> {
  const { asks: count, processes, latencyMs } = world.plan.stampede
  return world.during(async (inner) => {
    const toolJet = await inner.startServer('tooljet', { toolJet: { latencyMs, mintsPerMinute: 0, minuteMs: 60_000 } })
    const settings = { redisUrl: redis.url, toolJetUrl: toolJet.url, prefix: 'stampede:' }
    const servers = await Promise.all(Array.from({ length: processes }, () => inner.startServer('ours', settings)))
    const dispatcher = new Agent({ connections: 256 })
    inner.onStop(() => dispatcher.destroy())

    const [warmUp, asked] = asksOf([0, 1])
    const all = async (each = asked!) => Promise.all(Array.from({ length: count }, async (_, i) => {
      const answer = await ask(servers[i % processes]!.url, each, { dispatcher })
      checkAnswer(each, answer)
      return answer.body.source
    }))
    await all(warmUp) // connections are open, and the code has run before
    const mintsBefore = await toolJet.figure('mints')

    const start = performance.now()
    const sources = await all()
    const allAnsweredMs = performance.now() - start
    const mints = await toolJet.figure('mints') - mintsBefore

    const startAgain = performance.now()
    await all()
    const allAnsweredAgainMs = performance.now() - startAgain
    return { asks: count, processes, latencyMs, mints, saidMinted: sources.filter((source) => source === 'minted').length, allAnsweredMs, allAnsweredAgainMs }
  })
}
