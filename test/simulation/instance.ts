import { createRequire } from 'node:module'
import { Apps } from '../../plugin/access/apps.js'
import { redisFor, type Limits, type LimitState } from '../../plugin/access/limits.js'
import { UrlStore } from '../../plugin/cache/store.js'
import { Keys } from '../../plugin/cache/keys.js'
import { Urls } from '../../plugin/cache/urls.js'
import { Sealer } from '../../plugin/crypto/sealing.js'
import { Embed } from '../../plugin/embed.js'
import { embedError, isRedisDown } from '../../plugin/errors.js'
import { FleetClock, timeToMs } from '../../plugin/redis/clock.js'
import { RedisGuard } from '../../plugin/redis/guard.js'
import type { RedisLike } from '../../plugin/redis/redis-like.js'
import type { Timers } from '../../plugin/timers.js'
import { ToolJetClient } from '../../plugin/tooljet/client.js'
import { Gate } from '../../plugin/tooljet/gate.js'
import type { Pools } from '../../plugin/tooljet/pools.js'
import { ToolJet } from '../../plugin/tooljet/tooljet.js'
import type { Answer, Settings } from './history.js'
import { TOOLJET_URL, type HttpReply } from './tooljet.js'

/*
 * The only file that knows which classes an instance is made of. All of it is the plugin's own code, but for Fastify,
 * the audit log and the connections to ToolJet.
 */

export interface Surroundings {
  redis: RedisLike
  timers: Timers
  settings: Settings
  keyPrefix: string
  /** Calls ToolJet's mint API. */
  callTooljet: (body: never, signal: AbortSignal | undefined) => Promise<HttpReply>
}

/** One instance of the plugin. */
export interface Instance {
  /** Resolves when it may be asked. */
  start (): Promise<void>
  /** @param app `id:…`, `slug:…` or `alias:…` */
  request (user: string, app: string, replaces: string | undefined): Promise<Answer>
  forget (user: string, app: string | undefined): Promise<number>
  stop (): void
}

const API_TOKEN = 'the-token-of-the-simulation'
const log = { info () {}, warn () {}, error () {}, debug () {}, trace () {}, fatal () {} } as never

export function createInstance ({ redis, timers, settings, keyPrefix, callTooljet }: Surroundings): Instance {
  const { patExpiry, minRemaining, redisTimeoutMs, tooljetTimeoutMs } = settings
  const serveWithoutRedis = settings.onRedisDown === 'serve'
  const guard = new RedisGuard(redis, { deadlineMs: redisTimeoutMs, probeKey: `${keyPrefix}probe` }, log, timers)
  const clock = new FleetClock(timers)

  const tooljetKeys = new Keys(keyPrefix, { url: TOOLJET_URL, apiToken: API_TOKEN }, 100)
  const pools = {
    closed: false,
    of: () => ({
      request: async ({ body, signal }: { body: string, signal?: AbortSignal }) => {
        const { statusCode, headers, text } = await callTooljet(JSON.parse(body) as never, signal)
        return { statusCode, headers, body: [Buffer.from(text)] }
      }
    })
  } as unknown as Pools
  const client = new ToolJetClient(pools, { url: TOOLJET_URL, apiToken: API_TOKEN, timeoutMs: tooljetTimeoutMs }, timers)
  const gate = new Gate(guard, tooljetKeys.gate(), tooljetTimeoutMs + redisTimeoutMs, timers)
  const tooljet = new ToolJet({ client, gate, keys: tooljetKeys, log }, {
    url: TOOLJET_URL, embedOrigins: [TOOLJET_URL], lockMs: tooljetTimeoutMs + 5 * redisTimeoutMs, instance: '',
  })

  const keys = new Keys(keyPrefix, { url: '', apiToken: API_TOKEN }, 100)
  const store = new UrlStore({ guard, clock, keys, sealer: new Sealer([API_TOKEN]), log, timers })
  const urls = new Urls({ store, keys, clock, timers }, { serveWithoutRedis })
  const embed = new Embed({
    identity: (request) => (request as unknown as { email: string }).email,
    authorize: undefined,
    apps: new Apps(undefined, { patExpiry, sessionExpiry: 60, minRemaining }),
    limits: limitsOf(guard, timers, settings, keyPrefix),
    urls,
    tooljets: { of: () => tooljet, named: () => tooljet, areSeveral: false, origins: [TOOLJET_URL] } as never,
    strangerHash: (email) => keys.userHash(email),
    audit: { mustBeWritable () {}, record () {}, async recordGiven () {}, health: () => ({ instance: '' }) } as never,
  })

  return {
    async start () {
      const isSet = guard.run((redis) => redis.time()).then((time) => clock.set(timeToMs(time)), () => {})
      await Promise.race([isSet, timers.sleep(5000)])
    },
    async request (email, app, replaces) {
      return embed.urlFor({ email, headers: {}, id: '' } as never, { ...askFor(app), replaces })
    },
    async forget (email, app) {
      return embed.forget({ email, ...(app !== undefined && askFor(app)) } as never)
    },
    stop () {
      guard.close()
    },
  }
}

/** For the readable form of a schedule. */
export function scriptName (lua: string): string {
  for (const [name, text] of Object.entries({
    count: 'continueExceeding',
    claim: 'HSETNX',
    store: "if owner == '' then",
    fail: 'failure, life, denial',
    forget: 'APPEND',
    release: 'if mine or forgotten',
    look: "local id = redis.call('HGET', KEYS[1], ARGV[1])",
    enter: "'paused', paused",
    pause: 'PEXPIRE',
    probe: "'PX', 1000",
  })) {
    if (lua.includes(text)) return name
  }
  return lua.slice(0, 30)
}

function askFor (app: string): { appId?: string, appSlug?: string } {
  return app.startsWith('id:') ? { appId: app.slice(3) } : { appSlug: app.slice(5) }
}

interface Store {
  incr (user: string, done: (error: Error | null, result: { current: number, ttl: number }) => void, timeWindow: number, max: number): void
}
type NewStore = new (continueExceeding: boolean, exponentialBackoff: boolean, redis: unknown, nameSpace: string) => Store
const RedisStore = createRequire(import.meta.url)('@fastify/rate-limit/store/RedisStore.js') as NewStore

/** The plugin's limits without a Fastify instance around them: the same scripts over the same guard. */
function limitsOf (guard: RedisGuard, timers: Timers, { max, mints, timeWindow, onRedisDown }: Settings, keyPrefix: string): Limits {
  const counter = (name: string, max: number): ((user: string) => Promise<LimitState>) => {
    const store = new RedisStore(false, false, redisFor(guard, timeWindow), `${keyPrefix}limit:${name}:`)
    const own = new Map<string, { current: number, end: number }>()
    const countHere = (user: string): { current: number, ttl: number } => {
      const known = own.get(user)
      const here = known !== undefined && known.end > timers.now() ? known : { current: 0, end: timers.now() + timeWindow }
      here.current++
      own.set(user, here)
      return { current: here.current, ttl: here.end - timers.now() }
    }
    return async (user) => {
      const { current, ttl } = await new Promise<{ current: number, ttl: number }>((resolve, reject) => {
        store.incr(user, (error, result) => (error ? reject(error) : resolve(result)), timeWindow, max)
      }).catch((error: unknown) => {
        if (onRedisDown === 'fail' || !isRedisDown(error)) throw error
        return countHere(user)
      })
      const reset = Math.ceil(ttl / 1000)
      if (current > max) throw embedError('TOOLJET_EMBED_RATE_LIMITED', { retryAfter: reset })
      return { limit: max, remaining: max - current, reset }
    }
  }
  return { ask: counter('asks', max), mint: counter('mints', mints) }
}
