import fastifyRateLimit from '@fastify/rate-limit'
import type { FastifyInstance } from 'fastify'
import { embedError, isRedisDown } from '../errors.js'
import type { RedisGuard } from '../redis/guard.js'
import { Script } from '../redis/script.js'

export interface LimitSettings {
  /** Asks of one user in a window. */
  max: number
  /** Mints of one user in a window. */
  mints: number
  /** Milliseconds. */
  timeWindow: number
}

/** Where a user stands, as the `x-ratelimit-*` headers tell it. */
export interface LimitState {
  limit: number
  remaining: number
  /** Seconds until the window ends. */
  reset: number
}

export interface Limits {
  /** Counts one ask. @throws TOOLJET_EMBED_RATE_LIMITED with the state under `limit` */
  ask (userHash: string): Promise<LimitState>
  /** Counts one mint. @throws TOOLJET_EMBED_RATE_LIMITED */
  mint (userHash: string): Promise<LimitState>
}

interface LimitOptions {
  guard: RedisGuard
  keyPrefix: string
  /** While Redis is away: count in this process. */
  serveWithoutRedis: boolean
}

/** `@fastify/rate-limit` for the fleet, counted per user in Redis. */
export async function createLimits (scope: FastifyInstance, settings: LimitSettings, options: LimitOptions): Promise<Limits> {
  const asks = await counter(scope, 'asks', settings.max, settings.timeWindow, options)
  const mints = await counter(scope, 'mints', settings.mints, settings.timeWindow, options)
  return {
    ask: (userHash) => counted(asks, userHash, 'ask again later'),
    mint: (userHash) => counted(mints, userHash, 'too many of them needed a new URL of ToolJet'),
  }
}

type Count = (userHash: string) => Promise<{ max: number, remaining: number, ttlInSeconds: number, isExceeded: boolean }>

async function counted (count: Count, userHash: string, detail: string): Promise<LimitState> {
  const { max, remaining, ttlInSeconds, isExceeded } = await count(userHash)
  const limit = { limit: max, remaining, reset: ttlInSeconds }
  if (isExceeded) throw Object.assign(embedError('TOOLJET_EMBED_RATE_LIMITED', { detail, retryAfter: limit.reset }), { limit })
  return limit
}

async function counter (scope: FastifyInstance, name: string, max: number, timeWindow: number, { guard, keyPrefix, serveWithoutRedis }: LimitOptions): Promise<Count> {
  const window = { max, timeWindow }
  const shared = await limiter(scope, { ...window, redis: redisFor(guard, timeWindow), nameSpace: `${keyPrefix}limit:${name}:` })
  if (!serveWithoutRedis) return shared
  const own = await limiter(scope, window)
  return async (userHash) => {
    try {
      return await shared(userHash)
    } catch (error) {
      if (!isRedisDown(error)) throw error
      return own(userHash)
    }
  }
}

/** One counter in a scope of its own, away from a `@fastify/rate-limit` that the host may have. */
async function limiter (scope: FastifyInstance, options: { max: number, timeWindow: number, redis?: unknown, nameSpace?: string }): Promise<Count> {
  let check!: ReturnType<FastifyInstance['createRateLimit']>
  await scope.register(async (own) => {
    // @fastify/rate-limit would otherwise leave in place, and we would use, what own inherits of the host's.
    own.hasDecorator = (decorator) => Object.hasOwn(own, decorator)
    await own.register(fastifyRateLimit, {
      ...options,
      global: false,
      keyGenerator: (ask) => (ask as unknown as LimiterAsk).userHash,
    })
    check = own.createRateLimit() as typeof check
  })
  // Not the host's request: its route may carry a rate limit configuration of its own.
  return (userHash) => check({ userHash, routeOptions: {} } satisfies LimiterAsk as never) as ReturnType<Count>
}

interface LimiterAsk {
  userHash: string
  routeOptions: Record<string, never>
}

/** KEYS: counter. ARGV: window in ms. */
const GIVE_END = new Script("return redis.call('PEXPIRE', KEYS[1], ARGV[1])")

/**
 * What `@fastify/rate-limit`'s store takes for a Redis client: its script runs under our deadline, and the
 * host's client gets no new method.
 */
function redisFor (guard: RedisGuard, timeWindow: number): unknown {
  type Done = (error: unknown, result?: [current: number, ttl: number]) => void
  const facade: Record<string, unknown> = {
    defineCommand (name: string, { lua }: { lua: string }) {
      const script = new Script(lua)
      facade[name] = (key: string, ...rest: [...unknown[], Done]) => {
        const done = rest.pop() as Done
        guard.run(async (redis) => {
          const [current, ttl] = (await script.run(redis, [key], rest.map(String)) as unknown[]).map(Number) as [number, number]
          if (ttl >= 0) return [current, ttl] as [number, number]
          // A counter that lost its end would refuse its user for ever.
          await GIVE_END.run(redis, [key], [timeWindow])
          return [current, timeWindow] as [number, number]
        }).then((result) => done(null, result), done)
      }
    },
  }
  return facade
}
