import { checkAnswers, sample, type Ask } from './asks.js'
import { applyLoad, type Load } from './load.js'
import { redisFigures } from './redis-figures.js'
import type { ServerProcess } from './server-process.js'
import type { BenchRedis } from './world.js'

/** One round's figures; all but the first three per request. */
export interface Figures {
  requestsPerSecond: number
  /** Milliseconds. */
  p50: number
  p99: number
  /** µs of the server's process, all its threads. */
  cpu: number
  redisCommands: number
  redisReads: number
  /** µs of Redis's main thread. */
  redisCpu: number
  mints: number
}

/** Answers that are looked at, before and after each load. */
const SAMPLE = 5

export interface Measured {
  server: ServerProcess
  redis: BenchRedis
  toolJet: ServerProcess
  asks: readonly Ask[]
}

/** Measures a server under load, and checks that its answers are right. */
export async function measure ({ server, redis, toolJet, asks }: Measured, load: Pick<Load, 'connections' | 'seconds' | 'folder'>): Promise<Figures> {
  await checkAnswers(server.url, sample(asks, SAMPLE))
  const figures = async () => ({ cpu: await server.figure('cpu'), redis: await redisFigures(redis.client), mints: await toolJet.figure('mints') })

  const before = await figures()
  const { requests, seconds, p50, p99 } = await applyLoad({ url: server.url, asks, ...load })
  const after = await figures()

  await checkAnswers(server.url, sample(asks, SAMPLE))
  return {
    requestsPerSecond: requests / seconds,
    p50,
    p99,
    cpu: (after.cpu - before.cpu) / requests,
    redisCommands: (after.redis.commands - before.redis.commands) / requests,
    redisReads: (after.redis.reads - before.redis.reads) / requests,
    redisCpu: (after.redis.cpu - before.redis.cpu) / requests,
    mints: (after.mints - before.mints) / requests,
  }
}
