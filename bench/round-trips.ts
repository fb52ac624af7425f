import { setTimeout as sleep } from 'node:timers/promises'
import { TcpProxy } from '../test/support/tcp-proxy.js'
import { ask, checkAnswer, type Ask } from './asks.js'
import { median } from './numbers.js'
import type { Settings } from './servers/serve.js'
import type { BenchRedis, World } from './world.js'

/** For what an answer leaves to be done after it. */
const QUIET_MS = 150

/**
 * How often one ask, alone on its server, waits for Redis before it is answered: by how much longer it takes with a
 * Redis that is that much farther away. What is written after the answer is not waited for, and so does not count.
 */
export function sequentialRoundTrips (world: World, redis: BenchRedis, name: string, settings: Partial<Settings>, asks: readonly Ask[]): Promise<number> {
  const { asks: count, delayMs } = world.plan.roundTrips
  return world.during(async (inner) => {
    const proxy = await TcpProxy.to(redis.port)
    inner.onStop(() => proxy.close())
    const server = await inner.startServer(name, { ...settings, redisUrl: `redis://127.0.0.1:${proxy.port}` })
    const timeOfAsks = async (): Promise<number> => {
      const times: number[] = []
      for (const each of asks.slice(0, count)) {
        const start = performance.now()
        checkAnswer(each, await ask(server.url, each))
        times.push(performance.now() - start)
        await sleep(QUIET_MS)
      }
      return median(times)
    }

    await timeOfAsks() // the first ones load scripts
    const near = await timeOfAsks()
    proxy.set({ delayMs })
    const far = await timeOfAsks()
    return Math.max(0, (far - near) / (2 * delayMs))
  })
}
