import { readdirSync } from 'node:fs'
import type { Dispatcher } from 'undici'
import { Apps } from '../../plugin/access/apps.js'
import { limitsBy, type Increment, type NewLimiter } from '../../plugin/access/limits.js'
import { Audit } from '../../plugin/audit/audit.js'
import type { AuditFields } from '../../plugin/audit/event.js'
import { Pseudonyms } from '../../plugin/audit/pseudonyms.js'
import { EventSigner } from '../../plugin/audit/signer.js'
import { openCache } from '../../plugin/cache/open.js'
import { Encryptor } from '../../plugin/crypto/encryption.js'
import { KeyNames } from '../../plugin/crypto/names.js'
import { Embed } from '../../plugin/embed.js'
import { forget, type TooljetEmbedForget } from '../../plugin/forget.js'
import { lua } from '../../plugin/redis/lua.js'
import type { RedisLike } from '../../plugin/redis/redis-like.js'
import type { Timers } from '../../plugin/timers.js'
import { ToolJetClient } from '../../plugin/tooljet/client.js'
import { MintQueue } from '../../plugin/tooljet/mint-queue.js'
import { Pools } from '../../plugin/tooljet/pools.js'
import type { ToolJetRegistry } from '../../plugin/tooljet/registry.js'
import { Tickets } from '../../plugin/tooljet/tickets.js'
import { ToolJet } from '../../plugin/tooljet/tooljet.js'
import { Warming, type TooljetEmbedWarmOptions, type TooljetEmbedWarmPair, type TooljetEmbedWarmReport } from '../../plugin/warm.js'
import { inCapitals, type Answer, type Settings } from './history.js'
import { TOOLJET_URL, type HttpReply } from './tooljet.js'

/*
 * The only file that knows which classes an instance is made of, as `plugin/compose.ts` does. All of it is the plugin's
 * own code, but for Fastify and the connections to ToolJet.
 */

export interface Surroundings {
  redis: RedisLike
  timers: Timers
  settings: Settings
  keyPrefix: string
  /** Calls ToolJet's mint API. */
  callTooljet: (body: never, signal: AbortSignal | undefined) => Promise<HttpReply>
  /** Takes each audit event as the log has it; `isLost`: once more, when it does not get into the stream. */
  onEvent: (fields: AuditFields, isLost: boolean) => void
}

/** One instance of the plugin. */
export interface Instance {
  /** Resolves when it may be asked. */
  start (): Promise<void>
  /** @param id of the request @param app `id:…`, `slug:…` or `alias:…` */
  request (id: string, user: string, app: string, replaces: string | undefined, ticket?: string): Promise<Answer>
  forget (user: string, app: string | undefined): Promise<number>
  /** @param pairs user and app of each */
  warm (pairs: [user: string, app: string][], options: TooljetEmbedWarmOptions): Promise<TooljetEmbedWarmReport>
  /** Audit events that wait for Redis. */
  readonly backlog: number
  stop (): void
}

const MAX_USERS = 100
let instances = 0
const NAMES_KEY = Buffer.alloc(32, 1)
const URLS_KEY = Buffer.alloc(32, 2)
const AUDIT_KEY = Buffer.alloc(32, 3)
const TICKETS_KEY = Buffer.alloc(32, 4)
const log = { info () {}, warn () {}, error () {}, debug () {}, trace () {}, fatal () {} } as never

export function createInstance ({ redis, timers, settings, keyPrefix, callTooljet, onEvent }: Surroundings): Instance {
  const { patExpiry, minRemaining, timeWindow, redisTimeoutMs, tooljetTimeoutMs } = settings
  const serveWithoutRedis = settings.onRedisDown === 'serve'
  const { breaker, clock, scripts, batch, cache, start, close } = openCache(
    { redis, address: '' },
    { keyPrefix, redisTimeoutMs, limitWindowMs: timeWindow, longestPatExpiry: patExpiry, serveWithoutRedis, maxUsers: MAX_USERS },
    { encryptor: new Encryptor([URLS_KEY]), timers, log }
  )

  const names = new KeyNames(NAMES_KEY, TOOLJET_URL, MAX_USERS)
  const dispatcher = {
    request: async ({ body, signal }: { body: string, signal?: AbortSignal }) => {
      const { statusCode, headers, text } = await callTooljet(JSON.parse(body) as never, signal)
      return { statusCode, headers, body: [Buffer.from(text)] }
    }
  } as unknown as Dispatcher
  const client = new ToolJetClient(new Pools(), timers, { url: TOOLJET_URL, apiToken: 'a token', timeoutMs: tooljetTimeoutMs, headers: {}, dispatcher })
  const queue = new MintQueue({ scripts, timers, log, tickets: new Tickets(new Encryptor([TICKETS_KEY])) }, {
    limit: settings.mintLimit,
    callMs: tooljetTimeoutMs + redisTimeoutMs,
    longestTtlMs: Math.max(patExpiry * 1000, 180_000),
    keyPrefix,
    toolJet: names.toolJetHash(),
    instance: `${++instances}`,
    patExpiry,
    isSingleTenant: true,
  })
  const tooljet = new ToolJet({ client, queue, names, log }, {
    url: TOOLJET_URL, embedOrigins: [TOOLJET_URL], timeoutMs: tooljetTimeoutMs, lockTtlMs: tooljetTimeoutMs + 5 * redisTimeoutMs, instance: '',
  })

  const stream = `${keyPrefix}audit`
  const logEvent = (isLost: boolean) => (line: { tooljetEmbedAudit?: AuditFields }): void => {
    if (line.tooljetEmbedAudit !== undefined) onEvent(line.tooljetEmbedAudit, isLost)
  }
  const audit = new Audit({
    breaker, scripts, clock, timers, signer: new EventSigner([AUDIT_KEY], stream), pseudonyms: new Pseudonyms([AUDIT_KEY]), log: { ...(log as object), info: logEvent(false), error: logEvent(true) } as never,
  }, { stream, retentionMs: 0, maxEntries: 0, identity: 'email', functions: false, delivery: 'buffered', maxBacklog: 10_000, limitWindowMs: timeWindow })

  const apps = new Apps(undefined, { patExpiry, sessionExpiry: 60, minRemaining })
  const tooljets = { forRequest: () => tooljet, fromTarget: () => tooljet, displayNameOf: () => undefined, origins: [TOOLJET_URL] } satisfies Partial<ToolJetRegistry> as never
  const open = async (): Promise<Embed> => new Embed({
    resolveUser: async (request) => {
      const { email } = request as unknown as { email: string }
      return { email, spelling: settings.hasCapitals === true ? inCapitals(email) : email }
    },
    authorize: undefined,
    apps,
    limits: await limitsBy(limiterWithoutFastify(timers), settings, { batch, scripts, timers, keyPrefix, serveWithoutRedis, maxUsers: MAX_USERS }),
    cache,
    tooljets,
    fallbackUserHash: (email) => names.userHash(email),
    audit,
  })

  let embed: Embed
  return {
    async start () {
      embed = await open()
      await Promise.race([start(), timers.sleep(5000)])
      queue.open()
      audit.open()
    },
    async request (id, email, app, replaces, ticket) {
      return embed.urlFor({ email, headers: {}, id } as never, { ...askFor(app), replaces, ticket })
    },
    async forget (email, app) {
      return forget({ email, ...(app !== undefined && askFor(app)) } as TooljetEmbedForget, { apps, cache, tooljets, audit })
    },
    async warm (pairs, options) {
      return new Warming({ apps, tooljets, cache, audit, timers, closing: new AbortController().signal }, options).run(pairs.map(([email, app]) => ({ email, ...askFor(app) }) as TooljetEmbedWarmPair))
    },
    get backlog () {
      return audit.health().backlog
    },
    stop () {
      queue.close()
      close()
    },
  }
}

/** What `@fastify/rate-limit` makes of a count, and its memory store's fixed window. */
function limiterWithoutFastify (timers: Timers): NewLimiter {
  return async ({ max, timeWindow }, increment = fixedWindow(timers)) => async (userHash) => {
    const { current, ttl } = await increment(userHash, timeWindow, max)
    return { max, remaining: Math.max(0, max - current), ttlInSeconds: Math.ceil(ttl / 1000), isExceeded: current > max }
  }
}

function fixedWindow (timers: Timers): Increment {
  const users = new Map<string, { current: number, end: number }>()
  return (userHash, timeWindow) => {
    const now = timers.now()
    const known = users.get(userHash)
    const window = known !== undefined && known.end > now ? known : { current: 0, end: now + timeWindow }
    window.current++
    users.set(userHash, window)
    return { current: window.current, ttl: window.end - now }
  }
}

const SCRIPTS = ['cache', 'redis', 'access', 'tooljet', 'audit'].flatMap((room) => {
  const folder = `${room}/scripts`
  return readdirSync(new URL(`../../plugin/${folder}`, import.meta.url))
    .filter((file) => file.endsWith('.lua') && file !== 'prelude.lua' && file !== 'user.lua')
    .map((file) => ({ name: file.replace('.lua', ''), text: lua(`${folder}/${file}`) }))
})

/** For the readable form of a schedule. */
export function scriptName (script: string): string {
  return SCRIPTS.find(({ text }) => script.endsWith(text))?.name ?? script.slice(0, 30)
}

function askFor (app: string): { appId?: string, appSlug?: string } {
  return app.startsWith('id:') ? { appId: app.slice(3) } : { appSlug: app.slice(5) }
}
