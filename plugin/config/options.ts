import { Type, type TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { FastifyContextConfig, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import { APP_ID, APP_SLUG, makeApp, type App, type AppName, type Lifetimes } from '../access/apps.js'
import { STREAM_NAME } from '../audit/audit-keys.js'
import { emailOfJwt, type Identity } from '../access/identity.js'
import type { LimitSettings } from '../access/limits.js'
import { MS_PER_DAY } from '../durations.js'
import type { Log } from '../observability/log.js'
import { durationOf, milliseconds, optionError, describeValue, wrongOption } from './option-checks.js'
import type { MetricsRegistry } from '../observability/metrics.js'
import { isRedisLike, otherClient, type RedisLike } from '../redis/redis-like.js'
import { REDIS_URL, redisUrlProblem } from '../redis/url.js'
import { resolveTarget, targetSchema, type TooljetOfRequest, type TooljetTarget } from '../tooljet/target.js'

/** One entry of `apps`: an app, and lifetimes of its own. */
export type AllowedApp = AppName & {
  /** Seconds. @default the plugin's `patExpiry` */
  patExpiry?: number
  /** Minutes. @default the plugin's `sessionExpiry` */
  sessionExpiry?: number
  /** Seconds. @default min(60, patExpiry / 10) of this app, or the plugin's `minRemaining` when that is given */
  minRemaining?: number
}

/** Options of the plugin. With a wrong one the start fails with `TOOLJET_EMBED_OPTIONS`. */
export interface TooljetEmbedOptions {
  /**
   * The ToolJet server; or, where each tenant has its own, a function that returns the one of a request. It is called
   * once for each request, and `encryptionKey` is required then.
   */
  tooljet: TooljetTarget | TooljetOfRequest
  /** A client of ioredis or iovalkey (`Redis` or `Cluster`, never closed by the plugin), or a redis:// or rediss:// URL. @default fastify.redis of `@fastify/redis` */
  redis?: RedisLike | string
  /** Milliseconds for every single wait for Redis. @default 1000 */
  redisTimeoutMs?: number
  /** Start of every key that the plugin writes. @default 'tooljet-embed:' */
  keyPrefix?: string
  /** Apps by alias. If set, it is the allow-list: any other app is refused. @default any app */
  apps?: Record<string, AllowedApp>
  /** Seconds that a PAT lives; its URL is reused until then. @default 3600 */
  patExpiry?: number
  /** Minutes of idleness after which ToolJet ends a session. @default 60 */
  sessionExpiry?: number
  /** Seconds of life that a reused URL must still have; less than `patExpiry`. @default min(60, patExpiry / 10) */
  minRemaining?: number
  /** Authenticates on the plugin's own route. @default request.jwtVerify() */
  authenticate?: (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>
  /** The signed-in user's e-mail, from the server's side. ASCII white space around it is trimmed, ASCII letters are lowered, all else is kept; a ToolJet that knows no such user is asked once more as it was given. @default request.user.email */
  identity?: Identity
  /** Whether this user may open this app; only `true` permits it. @default everyone */
  authorize?: (request: FastifyRequest, lookup: { email: string, app: string }) => boolean | Promise<boolean>
  /** Limits per user over all instances; `false`: none. @default { max: 60, mints: 6, timeWindow: '1 minute' } */
  rateLimit?: false | {
    /** Requests in a window. @default 60 */
    max?: number
    /** Mints in a window. @default 6 */
    mints?: number
    /** Milliseconds, or words like '1 minute'. @default '1 minute' */
    timeWindow?: number | string
  }
  /** The plugin's own route; `false`: only the decorator. @default { path: '/api/get-tooljet-url' } */
  route?: false | {
    /** Under the prefix. @default '/api/get-tooljet-url' */
    path?: string
    /** `request.routeOptions.config`, for hooks of the host. @default none */
    config?: FastifyContextConfig
    /** Of Fastify's route. @default none */
    constraints?: NonNullable<RouteOptions['constraints']>
    /** OpenAPI's security requirements, for `@fastify/swagger`: one of them has to be met. @default the document's */
    security?: ReadonlyArray<Readonly<Record<string, readonly string[]>>>
  }
  /** The browser module `<tooljet-embed>`, for anyone; `false`: not served. @default { path: '/tooljet-embed.js' } where there is a route */
  client?: false | {
    /** Under the prefix. @default '/tooljet-embed.js' */
    path?: string
    /** `request.routeOptions.config`, for hooks of the host. @default none */
    config?: FastifyContextConfig
    /** Of Fastify's route. @default none */
    constraints?: NonNullable<RouteOptions['constraints']>
  }
  /** The audit log: a Redis stream, and lines in the app's log. */
  audit?: {
    /** Key of the stream. @default keyPrefix + 'audit' */
    stream?: string
    /** Days that an event is kept; 0: for ever. @default 90 */
    retentionDays?: number
    /** About how many events are kept; 0: any number. @default 1000000 */
    maxEntries?: number
    /** Events that may wait in memory while Redis is unavailable; further ones are logged at level error. @default 10000 */
    maxBacklog?: number
    /** `hmac`: a keyed hash in place of the e-mail, and neither IP address nor user agent. @default 'email' */
    identity?: 'email' | 'hmac'
    /** Loads the queries `tooljet_audit` and `tooljet_audit_stats` into Redis 7 when the plugin starts, if it may. @default true */
    functions?: boolean
    /** `required`: no URL leaves before its event is in Redis. @default 'buffered' */
    delivery?: 'buffered' | 'required'
    /** pino logger for the audit lines. @default the app's logger */
    logger?: Log
  }
  /** Prometheus metrics, listed in `docs/metrics.md`, in a registry of the peer `prom-client`. @default none */
  metrics?: {
    /** Where they are registered: a `Registry` of prom-client, which may have other metrics, too. */
    registry: MetricsRegistry
  }
  /** Without Redis: `serve` from this instance's own memory, or `fail` with 503. @default 'serve' */
  onRedisDown?: 'serve' | 'fail'
  /**
   * The secret that all keys are derived from, at least 16 characters. Of several, the first encrypts URLs and signs audit
   * events, all decrypt and verify, and the last (the oldest) names keys in Redis.
   * @default tooljet.apiToken, with a warning in the log; required where `tooljet` is a function
   */
  encryptionKey?: string | string[]
}

/** Options with every default filled in and every value checked. */
export type Settings = ReturnType<typeof resolveOptions>

const MAX_SECONDS = 10 * 365 * 86_400

// `expected` is for error messages: "…, expected a whole number".
const seconds = Type.Integer({ minimum: 1, maximum: MAX_SECONDS, expected: 'a whole number of seconds, 1 or more' })
const minutes = Type.Integer({ minimum: 1, maximum: MAX_SECONDS, expected: 'a whole number of minutes, 1 or more' })
const remaining = Type.Number({ minimum: 0, maximum: MAX_SECONDS, expected: 'a number of seconds, 0 or more and less than patExpiry' })
const count = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, expected: 'a whole number, 1 or more' })
const countOrNone = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, expected: 'a whole number, 0 or more' })
const ENCRYPTION_KEY = 'a string of at least 16 characters, or a list of such'
const encryptionKey = Type.String({ minLength: 16, expected: ENCRYPTION_KEY, secret: true })
const text = Type.String({ minLength: 1, expected: 'a string that is not empty' })
const func = Type.Function([], Type.Unknown(), { expected: 'a function' })
const any = Type.Optional(Type.Unknown())
const exact = { additionalProperties: false, expected: 'an object' }

function schemaFor (options: Record<string, unknown>): TSchema {
  const lifetimes = { patExpiry: Type.Optional(seconds), sessionExpiry: Type.Optional(minutes), minRemaining: Type.Optional(remaining) }
  const app = Type.Object({
    appId: Type.Optional(Type.RegExp(APP_ID, { expected: 'a UUID' })),
    appSlug: Type.Optional(Type.RegExp(APP_SLUG, { expected: '1 to 128 letters, digits, "-" and "_"' })),
    ...lifetimes,
  }, { ...exact, expected: '{ appId } or { appSlug }, each with optional patExpiry, sessionExpiry, minRemaining' })

  return Type.Object({
    tooljet: typeof options['tooljet'] === 'function' ? any : { ...targetSchema, expected: `${targetSchema['expected']}, or a function of the request that gives one` },
    redis: any,
    redisTimeoutMs: Type.Optional(milliseconds),
    keyPrefix: Type.Optional(Type.RegExp(/^[^{}\s]{1,128}$/, { expected: 'a string of 1 to 128 characters without white space and braces' })),
    apps: Type.Optional(Type.Record(Type.String(), app, { minProperties: 1, expected: 'an object with at least one app by its alias' })),
    ...lifetimes,
    authenticate: Type.Optional(func),
    identity: Type.Optional(func),
    authorize: Type.Optional(func),
    rateLimit: options['rateLimit'] === false
      ? any
      : Type.Optional(Type.Object({
        max: Type.Optional(count),
        mints: Type.Optional(count),
        timeWindow: Type.Optional(typeof options['rateLimit'] === 'object' && typeof (options['rateLimit'] as { timeWindow?: unknown } | null)?.timeWindow === 'string' ? text : milliseconds),
      }, { ...exact, expected: 'false, or an object with max, mints and timeWindow' })),
    route: routeOrNone(options['route'], { security: Type.Optional(Type.Array(Type.Object({}), { expected: 'a list of OpenAPI\'s security requirements' })) }),
    client: routeOrNone(options['client']),
    audit: Type.Optional(Type.Object({
      stream: Type.Optional(Type.RegExp(STREAM_NAME, { expected: 'a key without white space, and with braces only around a hash tag' })),
      retentionDays: Type.Optional(Type.Number({ minimum: 0, maximum: MAX_SECONDS / 86_400, expected: 'a number of days, 0 (for ever) or more' })),
      maxEntries: Type.Optional(countOrNone),
      maxBacklog: Type.Optional(count),
      identity: Type.Optional(oneOf('email', 'hmac')),
      functions: Type.Optional(Type.Boolean({ expected: 'true or false' })),
      delivery: Type.Optional(oneOf('buffered', 'required')),
      logger: any,
    }, exact)),
    metrics: Type.Optional(Type.Object({ registry: any }, { ...exact, expected: 'an object with registry' })),
    onRedisDown: Type.Optional(oneOf('serve', 'fail')),
    encryptionKey: Type.Optional(Array.isArray(options['encryptionKey'])
      ? Type.Array(encryptionKey, { minItems: 1, expected: ENCRYPTION_KEY, secret: true })
      : encryptionKey),
    prefix: any,
    logLevel: any,
    logSerializers: any,
  }, exact)
}

function routeOrNone (option: unknown, others = {}): TSchema {
  const path = Type.Optional(Type.RegExp(/^\/[^\s?#]*$/, { expected: 'a path that starts with "/"' }))
  const object = Type.Optional(Type.Object({}, { expected: 'an object' }))
  const fields = { path, config: object, constraints: object, ...others }
  return option === false ? any : Type.Optional(Type.Object(fields, { ...exact, expected: `false, or an object with ${Object.keys(fields).join(', ')}` }))
}

function oneOf (...values: string[]): TSchema {
  return Type.Union(values.map((value) => Type.Literal(value)), { expected: values.map((value) => `'${value}'`).join(' or ') })
}

/**
 * Checks options and fills in the defaults.
 * @param inherited `fastify.redis`, where there is one
 * @throws TOOLJET_EMBED_OPTIONS that names the option, its value (never a secret), and what is expected
 */
export function resolveOptions (options: TooljetEmbedOptions, inherited?: unknown) {
  checkAliases(options.apps)
  const schema = schemaFor({ ...options })
  const error = Value.Errors(schema, options).First()
  if (error !== undefined) throw wrongOption(error)

  const { tooljet, audit = {}, patExpiry = 3600, sessionExpiry = 60 } = options
  const keyPrefix = options.keyPrefix ?? 'tooljet-embed:'
  const lifetimes = { patExpiry, sessionExpiry, minRemaining: minRemainingOf('minRemaining', options.minRemaining, patExpiry) }

  return Object.freeze({
    tooljet: typeof tooljet === 'function' ? tooljet : resolveTarget(tooljet),
    redis: redisOf(options.redis === undefined ? inherited : options.redis),
    redisTimeoutMs: options.redisTimeoutMs ?? 1000,
    keyPrefix,
    apps: options.apps === undefined ? undefined : appsOf(options.apps, lifetimes, options.minRemaining),
    lifetimes,
    authenticate: authenticateOf(options.authenticate),
    identity: options.identity ?? emailOfJwt,
    authorize: options.authorize,
    rateLimit: options.rateLimit === false ? undefined : limitsOf(options.rateLimit ?? {}),
    route: options.route === false ? undefined : { ...options.route, path: options.route?.path ?? '/api/get-tooljet-url' },
    client: options.client === false || (options.client === undefined && options.route === false) ? undefined : { ...options.client, path: options.client?.path ?? '/tooljet-embed.js' },
    audit: {
      stream: streamOf(audit.stream, keyPrefix),
      retentionMs: (audit.retentionDays ?? 90) * MS_PER_DAY,
      maxEntries: audit.maxEntries ?? 1_000_000,
      maxBacklog: audit.maxBacklog ?? 10_000,
      identity: audit.identity ?? 'email',
      functions: audit.functions ?? true,
      delivery: audit.delivery ?? 'buffered',
      logger: loggerOf(audit.logger),
    },
    metrics: options.metrics === undefined ? undefined : { registry: registryOf(options.metrics.registry) },
    onRedisDown: options.onRedisDown ?? 'serve',
    encryptionKeys: encryptionKeysOf(options),
  })
}

/** A key of the plugin's own would overwrite the log, or give it a TTL. */
function streamOf (stream: string | undefined, keyPrefix: string): string {
  const own = [`${keyPrefix}probe`, `${keyPrefix}forgets`]
  if (stream !== undefined && own.includes(stream)) {
    throw optionError('audit.stream', `a key that the plugin does not use for something else, so none of ${own.join(' and ')}`, describeValue(stream, false))
  }
  return stream ?? `${keyPrefix}audit`
}

function encryptionKeysOf ({ tooljet, encryptionKey }: TooljetEmbedOptions): string[] {
  if (encryptionKey !== undefined) return [encryptionKey].flat()
  // one key for all ToolJets and tokens: there is one audit log
  if (typeof tooljet === 'function') throw optionError('encryptionKey', `${ENCRYPTION_KEY}: it is required where "tooljet" is a function`)
  return [tooljet.apiToken]
}

function redisOf (value: unknown): RedisLike | string {
  const expected = `an ioredis client, one of iovalkey, or ${REDIS_URL}`
  if (typeof value === 'string') {
    const problem = redisUrlProblem(value)
    if (problem === undefined) return value
    throw optionError('redis', expected, `another string (not shown): it ${problem}`)
  }
  if (isRedisLike(value)) return value
  if (value === undefined) throw optionError('redis', `${expected}; or register @fastify/redis before this plugin`)
  const other = otherClient(value)
  if (other !== undefined) throw optionError('redis', expected, other)
  throw optionError('redis', `${expected}; with namespaces of @fastify/redis: redis: fastify.redis.<name>`, describeValue(value, true))
}

function minRemainingOf (name: string, value: number | undefined, patExpiry: number): number {
  if (value === undefined) return Math.min(60, patExpiry / 10)
  if (value < patExpiry) return value
  throw optionError(name, `a number of seconds that is less than patExpiry (${patExpiry})`, String(value))
}

const ALIAS = /^[\w.-]{1,64}$/

function checkAliases (apps: unknown): void {
  if (typeof apps !== 'object' || apps === null) return
  const wrong = Object.keys(apps).find((alias) => !ALIAS.test(alias))
  if (wrong !== undefined) throw optionError('apps', 'aliases of 1 to 64 letters, digits, "_", "-" and "."', `with an alias ${describeValue(wrong, false)}`)
}

/** With a callback a request would be let through before it is called. */
function authenticateOf (authenticate: TooljetEmbedOptions['authenticate']) {
  if (authenticate === undefined || authenticate.length <= 2) return authenticate
  throw optionError('authenticate', 'a function (request, reply) that returns a promise', 'a function that takes a callback')
}

function appsOf (apps: Record<string, AllowedApp>, lifetimes: Lifetimes, givenMinRemaining: number | undefined): ReadonlyMap<string, App> {
  const resolved = new Map<string, App>(Object.entries(apps).map(([alias, app]) => {
    const { appId, appSlug } = app as { appId?: string, appSlug?: string }
    if ((appId === undefined) === (appSlug === undefined)) {
      throw optionError(`apps.${alias}`, 'either appId or appSlug', appId === undefined ? 'without both' : 'with both')
    }
    const patExpiry = app.patExpiry ?? lifetimes.patExpiry
    const own = {
      patExpiry,
      sessionExpiry: app.sessionExpiry ?? lifetimes.sessionExpiry,
      minRemaining: minRemainingOf(`apps.${alias}.minRemaining`, app.minRemaining ?? givenMinRemaining, patExpiry),
    }
    return [alias, makeApp(appId === undefined ? { appSlug: appSlug! } : { appId }, own, alias)]
  }))
  for (const app of resolved.values()) {
    const twin = [...resolved.values()].find(({ key, patExpiry, sessionExpiry }) => key === app.key && (patExpiry !== app.patExpiry || sessionExpiry !== app.sessionExpiry))
    if (twin !== undefined) throw optionError(`apps.${twin.displayName}`, 'for one app the same lifetimes under every alias, its URL is shared', `at odds with apps.${app.displayName}`)
  }
  return resolved
}

function limitsOf ({ max = 60, mints = 6, timeWindow = '1 minute' }: Exclude<TooljetEmbedOptions['rateLimit'], false | undefined>): LimitSettings {
  return { max, mints, timeWindow: durationOf('rateLimit.timeWindow', timeWindow) }
}

function loggerOf (logger: unknown): Log | undefined {
  if (logger === undefined) return undefined
  const methods = logger as Record<string, unknown> | null
  if (typeof methods === 'object' && methods !== null && typeof methods['info'] === 'function' && typeof methods['error'] === 'function') return logger as Log
  throw optionError('audit.logger', 'a pino logger', describeValue(logger, true))
}

function registryOf (registry: unknown): MetricsRegistry {
  const methods = registry as Record<string, unknown> | null | undefined
  if (typeof methods === 'object' && methods !== null && ['registerMetric', 'getSingleMetric', 'removeSingleMetric'].every((name) => typeof methods[name] === 'function')) return registry as MetricsRegistry
  throw optionError('metrics.registry', 'a Registry of prom-client', registry === undefined ? undefined : describeValue(registry, true))
}
