import { setTimeout as sleep } from 'node:timers/promises'
import { TcpProxy } from '../test/support/tcp-proxy.js'
import { send, checkAnswer, type UserRequest } from './requests.js'
import { median } from './statistics.js'
import type { Settings } from './servers/serve.js'
import type { BenchRedis, Environment } from './environment.js'

/** Time for what a server does after its answer. */
const QUIET_MS = 150

/**
 * How often one request, alone on its server, waits for Redis before it is answered: measured by how much longer it takes
 * when a proxy delays Redis. What is written after the answer does not count.
 */
export function sequentialRoundTrips (environment: Environment, redis: BenchRedis, name: string, settings: Partial<Settings>, requests: readonly UserRequest[]): Promise<number> {
  const { requests: count, delayMs } = environment.plan.roundTrips
  return environment.withScope(async (inner) => {
    const proxy = await TcpProxy.to(redis.port)
    inner.onStop(() => proxy.close())
    const server = await inner.startServer(name, { ...settings, redisUrl: `redis://127.0.0.1:${proxy.port}` })
    const timeOfRequests = async (): Promise<number> => {
      const times: number[] = []
      for (const request of requests.slice(0, count)) {
        const start = performance.now()
        checkAnswer(request, await send(server.url, request))
        times.push(performance.now() - start)
        await sleep(QUIET_MS)
      }
      return median(times)
    }

    await timeOfRequests() // the first requests load scripts
    const near = await timeOfRequests()
    proxy.set({ delayMs })
    const far = await timeOfRequests()
    return Math.max(0, (far - near) / (2 * delayMs))
  })
}
