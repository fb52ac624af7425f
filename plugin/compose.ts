import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { Apps } from './access/apps.js'
import { userResolver } from './access/identity.js'
import { createLimits } from './access/limits.js'
import { Audit } from './audit/audit.js'
import { Pseudonyms } from './audit/pseudonyms.js'
import { EventSigner } from './audit/signer.js'
import { openCache } from './cache/open.js'
import { Closers } from './closers.js'
import type { Settings } from './config/options.js'
import { Encryptor } from './crypto/encryption.js'
import { KeyNames } from './crypto/names.js'
import { deriveSecretKeys, type KeyPurpose } from './crypto/secret-keys.js'
import { Embed } from './embed.js'
import { forget, type TooljetEmbedForget } from './forget.js'
import { connect } from './redis/connect.js'
import { keyPrefixOf } from './redis/redis-like.js'
import { systemTimers } from './timers.js'
import { Pools } from './tooljet/pools.js'
import { Tickets } from './tooljet/tickets.js'
import { createRegistry } from './tooljet/registry.js'
import { Warming, type TooljetEmbedWarmOptions, type TooljetEmbedWarmPair } from './warm.js'

/** Fastify gives a plugin 10 s to load. */
const MAX_START_WAIT_MS = 5000

/**
 * Creates the components of one registration.
 * @returns them, and `closers` for all that is open
 * @throws what a component throws; what was opened before is closed
 */
export async function compose (fastify: FastifyInstance, settings: Settings) {
  const closers = new Closers()
  return { closers, ...await closers.closeOnError(() => open(fastify, settings, closers)) }
}

async function open (fastify: FastifyInstance, settings: Settings, closers: Closers) {
  const { keyPrefix, redisTimeoutMs } = settings
  const log: FastifyBaseLogger = fastify.log
  const serveWithoutRedis = settings.onRedisDown === 'serve'

  const timers = systemTimers

  const secretKeys = await Promise.all(settings.encryptionKeys.map(deriveSecretKeys))
  const keysFor = (purpose: KeyPurpose): Buffer[] => secretKeys.map((keys) => keys.keyFor(purpose))
  const namesKey = keysFor('key names').at(-1)!

  const { disconnect, ...connection } = await connect(settings.redis)
  closers.add(disconnect)
  const longestPatExpiry = Math.max(settings.lifetimes.patExpiry, ...[...settings.apps?.values() ?? []].map(({ patExpiry }) => patExpiry))
  const { breaker, clock, scripts, batch, cache, start, close } = openCache(
    connection,
    { keyPrefix, redisTimeoutMs, limitWindowMs: settings.rateLimit?.timeWindow ?? 1, longestPatExpiry, serveWithoutRedis },
    { encryptor: new Encryptor(keysFor('urls')), timers, log }
  )
  closers.add(close)
  await Promise.race([start(), sleep(MAX_START_WAIT_MS, undefined, { ref: false })])

  const audit = new Audit({
    breaker,
    scripts,
    clock,
    timers,
    signer: new EventSigner(keysFor('audit'), keyPrefixOf(connection.redis) + settings.audit.stream),
    pseudonyms: new Pseudonyms(keysFor('audit identity')),
    log: settings.audit.logger ?? log,
  }, { ...settings.audit, limitWindowMs: settings.rateLimit ? settings.rateLimit.timeWindow : 60_000 })

  const pools = new Pools()
  const tooljets = createRegistry(settings.tooljet, {
    pools,
    scripts,
    timers,
    log,
    tickets: new Tickets(new Encryptor(keysFor('tickets'))),
    keyPrefix,
    namesKey,
    redisTimeoutMs,
    longestTtlMs: Math.max(longestPatExpiry * 1000, 180_000),
    patExpiry: longestPatExpiry,
    instance: audit.health().instance,
  })

  const limits = settings.rateLimit && await createLimits(fastify, settings.rateLimit, { batch, scripts, timers, keyPrefix, serveWithoutRedis })
  const noToolJetNames = new KeyNames(namesKey, '') // for requests whose ToolJet is not known
  const apps = new Apps(settings.apps, settings.lifetimes)
  const embed = new Embed({ resolveUser: userResolver(settings.identity, log), authorize: settings.authorize, apps, limits, cache, tooljets, fallbackUserHash: (email) => noToolJetNames.userHash(email), audit })

  audit.open()
  closers.add((timeoutMs) => audit.close(timeoutMs))
  closers.add(() => tooljets.close())
  closers.add(() => pools.close()) // closed before the log, which then has the last answers
  const closing = new AbortController()
  const warm = async (list: readonly TooljetEmbedWarmPair[], options?: TooljetEmbedWarmOptions) => new Warming({ apps, tooljets, cache, audit, timers, closing: closing.signal }, options).run(list)
  closers.add(() => closing.abort())
  return { embed, tooljets, audit, breaker, warm, forget: (whose: TooljetEmbedForget) => forget(whose, { apps, cache, tooljets, audit }) }
}
