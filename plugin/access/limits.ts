import fastifyRateLimit from '@fastify/rate-limit'
import type { FastifyInstance } from 'fastify'
import { LRUCache } from 'lru-cache'
import { userKeys } from '../redis/user-keys.js'
import { embedError, isRedisOutage, type LimitState } from '../errors.js'
import { Script } from '../redis/script.js'
import type { ScriptClient } from '../redis/script-client.js'
import type { Count, UserBatch } from '../redis/user-batch.js'
import type { Timers } from '../timers.js'

const MINTS = Script.of('access/scripts/mints.lua')
const TOO_MANY_MINTS = 'too many of them needed a new URL of ToolJet'
/** Before a mint's name: it is not counted. */
const LOOKS = '?'

export interface LimitSettings {
  /** Requests of one user in a window. */
  max: number
  /** Mints of one user in any window. */
  mints: number
  /** Milliseconds. */
  timeWindow: number
}

export interface Limits {
  /** Counts one request. @throws TOOLJET_EMBED_RATE_LIMITED with the state under `limit` */
  countRequest (userHash: string): Promise<LimitState>
  /** Counts one mint. @param mintId by which it counts once @throws TOOLJET_EMBED_RATE_LIMITED */
  countMint (userHash: string, mintId: string): Promise<LimitState>
  /** Counts nothing. @throws TOOLJET_EMBED_RATE_LIMITED */
  assertMayMint (userHash: string, mintId: string): Promise<LimitState>
  /** Mints of one user in a window. */
  readonly maxMints: number
}

export interface LimitDeps {
  batch: UserBatch
  scripts: ScriptClient
  timers: Timers
  keyPrefix: string
  /** While Redis is unavailable: count in this process. */
  serveWithoutRedis: boolean
  /** Users that are counted in this process; memory for them is allocated at once. */
  maxUsers?: number | undefined
}

/** Counts one of this user, in Redis or in this process. @param key the user's, or "user name" of what is counted once */
export type Increment = (key: string, timeWindow: number, max: number) => Count | Promise<Count>

/** `@fastify/rate-limit` for the fleet, counted per user in Redis: requests in fixed windows, mints in a sliding one. */
export function createLimits (scope: FastifyInstance, settings: LimitSettings, deps: LimitDeps): Promise<Limits> {
  return limitsBy((options, increment) => limiter(scope, options, increment), settings, deps)
}

/** @param newLimiter makes one counter; without an `increment` one that counts in this process */
export async function limitsBy (newLimiter: NewLimiter, { max, mints: maxMints, timeWindow }: LimitSettings, { batch, scripts, timers, keyPrefix, serveWithoutRedis, maxUsers }: LimitDeps): Promise<Limits> {
  // counted by redis/scripts/count-and-look-up.lua, in one call with the lookups of the turn
  const requests = await counter(newLimiter, { max, timeWindow }, serveWithoutRedis, (userHash) => batch.count(userHash))
  const mints = await counter(newLimiter, { max: maxMints, timeWindow }, serveWithoutRedis, async (key, timeWindow, max) => {
    const [userHash, name] = key.split(' ') as [string, string]
    const { values: [current, ttl] } = await scripts.run(MINTS, [userKeys(keyPrefix, userHash).mints], [name, timeWindow, max])
    return { current: Number(current), ttl: Number(ttl) }
  }, slidingWindow(timers, maxUsers))
  return {
    maxMints,
    countRequest: (userHash) => check(requests, userHash, 'ask again later'),
    countMint: (userHash, mintId) => check(mints, `${userHash} ${mintId}`, TOO_MANY_MINTS),
    assertMayMint: (userHash, mintId) => check(mints, `${userHash} ${LOOKS}${mintId}`, TOO_MANY_MINTS),
  }
}

type Limiter = (userHash: string) => Promise<{ max: number, remaining: number, ttlInSeconds: number, isExceeded: boolean }>
export type NewLimiter = (options: { max: number, timeWindow: number }, increment?: Increment) => Promise<Limiter>

/** One limit: its counter in Redis, and the one of this process while Redis is unavailable; without it nobody is served then. */
interface Counter {
  forFleet: Limiter
  own: Limiter | undefined
}

async function check ({ forFleet, own }: Counter, userHash: string, detail: string): Promise<LimitState> {
  let counted
  try {
    counted = await forFleet(userHash)
  } catch (error) {
    if (own === undefined || !isRedisOutage(error)) throw error
    counted = await own(userHash)
  }
  const limit = { limit: counted.max, remaining: counted.remaining, reset: counted.ttlInSeconds }
  if (counted.isExceeded) throw embedError('TOOLJET_EMBED_RATE_LIMITED', { detail, retryAfter: limit.reset, limit })
  return limit
}

/** @param locally counts in this process; default: the memory store of `@fastify/rate-limit` */
async function counter (newLimiter: NewLimiter, options: { max: number, timeWindow: number }, serveWithoutRedis: boolean, shared: Increment, locally?: Increment): Promise<Counter> {
  return { forFleet: await newLimiter(options, shared), own: serveWithoutRedis ? await newLimiter(options, locally) : undefined }
}

/** One counter in a scope of its own, away from a `@fastify/rate-limit` that the host may have. */
async function limiter (scope: FastifyInstance, options: { max: number, timeWindow: number }, increment?: Increment): Promise<Limiter> {
  let check!: ReturnType<FastifyInstance['createRateLimit']>
  await scope.register(async (own) => {
    // @fastify/rate-limit would otherwise leave in place, and we would use, what own inherits of the host's.
    own.hasDecorator = (decorator) => Object.hasOwn(own, decorator)
    await own.register(fastifyRateLimit, {
      ...options,
      global: false,
      keyGenerator: (request) => (request as unknown as LimiterRequest).userHash,
      ...(increment !== undefined && { store: storeOf(increment) }),
    })
    check = own.createRateLimit() as typeof check
  })
  // Not the host's request: its route may carry a rate limit configuration of its own.
  return (userHash) => check({ userHash, routeOptions: {} } satisfies LimiterRequest as never) as ReturnType<Limiter>
}

interface LimiterRequest {
  userHash: string
  routeOptions: Record<string, never>
}

/** A store as `@fastify/rate-limit` documents it, without `child`: that is for routes, and our scope has none. */
function storeOf (increment: Increment) {
  return class {
    incr (userHash: string, done: (error: Error | null, counted?: Count) => void, timeWindow: number, max: number): void {
      Promise.resolve(increment(userHash, timeWindow, max)).then((counted) => done(null, counted), done)
    }
  } as never
}

const MAX_USERS = 10_000

/** The same as in Redis, for this process alone. */
function slidingWindow (timers: Timers, maxUsers = MAX_USERS): Increment {
  const users = new LRUCache<string, Map<string, number>>({ max: maxUsers })
  return (key, timeWindow, max) => {
    const [userHash, question] = key.split(' ') as [string, string]
    const isLook = question.startsWith(LOOKS)
    const name = isLook ? question.slice(LOOKS.length) : question
    const now = timers.now()
    const moments = new Map([...users.get(userHash) ?? []].filter(([, moment]) => moment > now - timeWindow))
    const isAllowed = moments.has(name) || moments.size < max
    if (isAllowed && !isLook) moments.set(name, moments.get(name) ?? now)
    users.set(userHash, moments)
    const [oldest = now] = moments.values()
    return { current: isAllowed ? moments.size : max + 1, ttl: oldest + timeWindow - now }
  }
}
