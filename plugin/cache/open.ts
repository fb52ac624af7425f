import type { Encryptor } from '../crypto/encryption.js'
import type { Log } from '../observability/log.js'
import { RedisCircuitBreaker } from '../redis/circuit-breaker.js'
import { RedisClock } from '../redis/clock.js'
import { Script } from '../redis/script.js'
import { ScriptClient } from '../redis/script-client.js'
import type { Connection } from '../redis/connect.js'
import { UserBatch } from '../redis/user-batch.js'
import type { Timers } from '../timers.js'
import { UrlStore } from './store.js'
import { UrlCache } from './url-cache.js'

const PROBE = Script.of('redis/scripts/probe.lua')

export interface CacheSettings {
  keyPrefix: string
  /** Bound of each wait for Redis, ms. */
  redisTimeoutMs: number
  /** Window of the rate limit, ms. */
  limitWindowMs: number
  /** Longest `patExpiry` of any app, seconds. */
  longestPatExpiry: number
  serveWithoutRedis: boolean
  /** Users that this instance remembers; memory for them is allocated at once. @default 10,000, and 100,000 with a forget */
  maxUsers?: number
}

/** Creates the cache of one registration, and what it reaches Redis with. */
export function openCache (connection: Omit<Connection, 'disconnect'>, settings: CacheSettings, { encryptor, timers, log }: { encryptor: Encryptor, timers: Timers, log: Log }) {
  const { keyPrefix, redisTimeoutMs, limitWindowMs, longestPatExpiry, serveWithoutRedis, maxUsers } = settings
  const longestLifeMs = longestPatExpiry * 1000
  const breaker = new RedisCircuitBreaker(connection, redisTimeoutMs, { timers, log })
  const clock = new RedisClock(timers)
  const scripts = new ScriptClient({ breaker, clock, timers })
  const batch = new UserBatch({ scripts, breaker, timers }, { keyPrefix, windowMs: limitWindowMs })
  const store = new UrlStore({ scripts, batch, clock, encryptor, log }, { keyPrefix, longestLifeMs })
  const cache = new UrlCache({ store, breaker, scripts, clock, timers }, { serveWithoutRedis, forgetLogKey: `${keyPrefix}forgets`, longestLifeMs, maxUsers })

  const probe = async (): Promise<void> => {
    await cache.catchUp() // first: a Redis that accepts no writes can still be read
    await scripts.attempt(PROBE, [`${keyPrefix}probe`], [])
    cache.restored()
  }
  return {
    breaker,
    clock,
    scripts,
    batch,
    store,
    cache,
    /** Until it resolves, Redis counts as unavailable. */
    async start (): Promise<void> {
      await connection.whenReady?.(redisTimeoutMs)
      await breaker.start(probe)
      cache.open()
    },
    close (): void {
      cache.close()
      breaker.close()
    },
  }
}
