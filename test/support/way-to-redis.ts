import type { Cluster, Redis } from 'ioredis'
import type { Log } from '../../plugin/observability/log.js'
import { RedisCircuitBreaker } from '../../plugin/redis/circuit-breaker.js'
import { RedisClock } from '../../plugin/redis/clock.js'
import { ScriptClient } from '../../plugin/redis/script-client.js'
import { systemTimers } from '../../plugin/timers.js'

/** What the plugin has between itself and a client, started. */
export async function wayToRedis (client: Redis | Cluster, timeoutMs: number, log: Log) {
  const timers = systemTimers
  const breaker = new RedisCircuitBreaker({ redis: client }, timeoutMs, { timers, log })
  const clock = new RedisClock(timers)
  await breaker.start()
  return { breaker, clock, timers, log, scripts: new ScriptClient({ breaker, clock, timers }) }
}
