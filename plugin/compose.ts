import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { Apps } from './access/apps.js'
import { createLimits } from './access/limits.js'
import { Audit } from './audit/audit.js'
import { Chain } from './audit/chain.js'
import { Pseudonyms } from './audit/pseudonyms.js'
import { Keys } from './cache/keys.js'
import { UrlStore } from './cache/store.js'
import { Urls } from './cache/urls.js'
import { Closers } from './closers.js'
import type { Settings } from './config/options.js'
import { Sealer } from './crypto/sealing.js'
import { Embed } from './embed.js'
import { FleetClock, timeToMs } from './redis/clock.js'
import { connect } from './redis/connect.js'
import { RedisGuard } from './redis/guard.js'
import { Pools } from './tooljet/pools.js'
import { toolJetsOf } from './tooljet/tooljets.js'

/** Fastify gives a plugin 10 s to load. */
const MAX_START_WAIT_MS = 5000

/**
 * Makes the parts of one registration and ties them together.
 * @returns them, and `closers` for all that is open
 * @throws what a part throws; what was opened before it is closed then
 */
export async function compose (fastify: FastifyInstance, settings: Settings) {
  const closers = new Closers()
  return { closers, ...await closers.closeOnError(() => open(fastify, settings, closers)) }
}

async function open (fastify: FastifyInstance, settings: Settings, closers: Closers) {
  const { keyPrefix, redisTimeoutMs } = settings
  const log: FastifyBaseLogger = fastify.log
  const serveWithoutRedis = settings.onRedisDown === 'serve'

  const { redis, disconnect } = await connect(settings.redis)
  closers.add(disconnect)
  const guard = new RedisGuard(redis, { deadlineMs: redisTimeoutMs, probeKey: `${keyPrefix}probe` }, log)
  closers.add(() => guard.close())
  const clock = new FleetClock()
  const clockIsSet = guard.run((client) => client.time()).then((time) => clock.set(timeToMs(time)), () => { /* the guard has logged it */ })
  await Promise.race([clockIsSet, sleep(MAX_START_WAIT_MS, undefined, { ref: false })])

  const audit = new Audit({
    guard,
    clock,
    chain: new Chain(settings.encryptionKeys),
    pseudonyms: new Pseudonyms(settings.encryptionKeys),
    log: settings.audit.logger ?? log,
  }, settings.audit)

  const pools = new Pools()
  const tooljets = toolJetsOf(settings.tooljet, { pools, guard, log, keyPrefix, redisTimeoutMs, instance: audit.health().instance })

  // of no ToolJet: keys differ by the `userHash` that they are made of, and each ToolJet has its own
  const keys = new Keys(keyPrefix, { url: '', apiToken: settings.encryptionKeys[0]! })
  const store = new UrlStore({ guard, clock, keys, sealer: new Sealer(settings.encryptionKeys), log })
  const urls = new Urls({ store, keys, clock }, { serveWithoutRedis })

  const limits = settings.rateLimit && await createLimits(fastify, settings.rateLimit, { guard, keyPrefix, serveWithoutRedis })
  const { identity, authorize } = settings
  const embed = new Embed({ identity, authorize, apps: new Apps(settings.apps, settings.lifetimes), limits, urls, tooljets, strangerHash: (email) => keys.userHash(email), audit })

  audit.open()
  closers.add((boundMs) => audit.close(boundMs))
  closers.add(() => pools.close()) // first, so that the last answers are in the log before it is closed
  return { embed, tooljets, audit, guard }
}
