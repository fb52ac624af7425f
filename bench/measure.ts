import { checkAnswers, sample, type UserRequest } from './requests.js'
import { applyLoad, type Load } from './load.js'
import { sumOfFigures } from './redis-figures.js'
import type { ServerProcess } from './server-process.js'
import type { BenchRedis } from './environment.js'

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
  /** µs of the main threads of all masters. */
  redisCpu: number
  mints: number
}

/** Answers that are checked before and after each load. */
const SAMPLE = 5

export interface Measured {
  server: ServerProcess
  /** One, or the masters of a Cluster. */
  masters: readonly BenchRedis[]
  toolJet: ServerProcess
  requests: readonly UserRequest[]
}

/** Measures a server under load, and checks that its answers are right. */
export async function measure ({ server, masters, toolJet, requests }: Measured, load: Pick<Load, 'connections' | 'seconds' | 'folder'>): Promise<Figures> {
  await checkAnswers(server.url, sample(requests, SAMPLE))
  const figures = async () => ({ cpu: await server.figure('cpu'), redis: await sumOfFigures(masters.map(({ client }) => client)), mints: await toolJet.figure('mints') })

  const before = await figures()
  const { count, seconds, p50, p99 } = await applyLoad({ url: server.url, requests, ...load })
  const after = await figures()

  await checkAnswers(server.url, sample(requests, SAMPLE))
  return {
    requestsPerSecond: count / seconds,
    p50,
    p99,
    cpu: (after.cpu - before.cpu) / count,
    redisCommands: (after.redis.commands - before.redis.commands) / count,
    redisReads: (after.redis.reads - before.redis.reads) / count,
    redisCpu: (after.redis.cpu - before.redis.cpu) / count,
    mints: (after.mints - before.mints) / count,
  }
}
