import type { FastifyInstance, FastifyRequest, RegisterOptions } from 'fastify'
import fp from 'fastify-plugin'
import type { TooljetEmbedAsk, TooljetEmbedUrl } from './lookup.js'
import type { AuditHealth } from './audit/audit.js'
import type { AuditReport } from './audit/report.js'
import { clientModule, type ClientModule } from './http/client-module.js'
import { compose } from './compose.js'
import { embedError, isRedisOutage } from './errors.js'
import type { TooljetEmbedForget } from './forget.js'
import { openMetrics } from './observability/metrics.js'
import { optionError } from './config/option-checks.js'
import { resolveOptions, type Settings, type TooljetEmbedOptions } from './config/options.js'
import { routes } from './http/routes.js'
import type { TooljetsHealth } from './tooljet/registry.js'
import type { TooljetEmbedWarmOptions, TooljetEmbedWarmPair, TooljetEmbedWarmReport } from './warm.js'

/** State of the plugin, Redis and ToolJet: for a health endpoint of the host. */
export interface TooljetEmbedHealth extends TooljetsHealth {
  /** Whether Redis answers at present; if not, for how many milliseconds, and why: `WRONGPASS`, `ECONNREFUSED`, …, the code of Redis or the system; without `code` it does not answer at all. */
  redis: { state: 'up' | 'down', downForMs?: number, code?: string }
  /** State of this instance's events. */
  audit: AuditHealth
}

/** `fastify.tooljetEmbed` */
export interface TooljetEmbed {
  /** Origins of embed URLs: for a `frame-src` policy. Empty where option `tooljet` is a function. */
  origins: string[]
  /**
   * Makes the fleet drop a user's cached URLs, of one app or of all: no request that begins after it has resolved gets a
   * URL from before it. URLs already handed to a page remain valid.
   * @returns how many were dropped
   * @throws TOOLJET_EMBED_REDIS_DOWN, TOOLJET_EMBED_BAD_REQUEST, TOOLJET_EMBED_APP_NOT_ALLOWED
   */
  forget (whose: TooljetEmbedForget): Promise<number>
  /**
   * Fills the cache ahead of a rush: after every user who waits, and with a fifth of the mint limit left free (at most 10
   * a minute while no limit is known). It may be stopped and called again: a cached URL costs no call.
   * @throws TOOLJET_EMBED_BAD_REQUEST when the list or an option is invalid
   */
  warm (list: readonly TooljetEmbedWarmPair[], options?: TooljetEmbedWarmOptions): Promise<TooljetEmbedWarmReport>
  /** State of Redis, ToolJet and the audit log, for a health endpoint. Never throws. */
  health (): Promise<TooljetEmbedHealth>
  /** The browser module, once the app is ready; `undefined` with option `client: false`. */
  client?: ClientModule
  /** The audit log. */
  audit: {
    /** Reads the audit stream and reports what is missing, forged or doubled, per instance. @throws TOOLJET_EMBED_REDIS_DOWN */
    verify (): Promise<AuditReport>
  }
}

declare module 'fastify' {
  interface FastifyInstance {
    tooljetEmbed: TooljetEmbed
  }
  interface FastifyRequest {
    /**
     * A URL of a ToolJet app for the signed-in user.
     * @throws an error with a code of `errorCodes`
     */
    tooljetEmbedUrl (lookup?: TooljetEmbedAsk): Promise<TooljetEmbedUrl>
  }
}

/** A request with the decorator of `@fastify/jwt`. */
type WithJwt = FastifyRequest & { jwtVerify (): Promise<unknown> }

/**
 * The plugin: `app.register(tooljetEmbed, { tooljet: { url, apiToken }, redis })`, after `@fastify/jwt`.
 * It adds `request.tooljetEmbedUrl()`, `fastify.tooljetEmbed` and the route `POST /api/get-tooljet-url`.
 * @throws TOOLJET_EMBED_OPTIONS when the app starts, for a wrong option or a second registration in one scope
 */
export const plugin = fp<TooljetEmbedOptions>(async function tooljetEmbed (fastify, options: TooljetEmbedOptions & RegisterOptions) {
  if (Object.hasOwn(fastify, 'tooljetEmbed')) {
    throw embedError('TOOLJET_EMBED_OPTIONS', { detail: 'it is already registered in this scope, register it once or in scopes apart' })
  }
  const settings = resolveOptions(options, (fastify as { redis?: unknown }).redis)
  const authenticate = settings.authenticate ?? jwtVerifyOf(fastify, settings)
  if (options.encryptionKey === undefined) fastify.log.warn('tooljet-embed: no encryptionKey is set, keys are derived from tooljet.apiToken')
  const { embed, tooljets, audit, breaker, forget, warm, closers } = await compose(fastify, settings)
  fastify.addHook('onClose', () => closers.close(2 * settings.redisTimeoutMs))

  const health = async (): Promise<TooljetEmbedHealth> => {
    // a Redis that refuses PING is available
    const up = await breaker.run((redis) => redis.ping()).then(() => true, (error: unknown) => !isRedisOutage(error))
    const code = breaker.openReason
    const redis = up ? { state: 'up' as const } : { state: 'down' as const, downForMs: Math.round(breaker.openForMs), ...(code !== undefined && { code }) }
    return { redis, ...await tooljets.health(), audit: audit.health() }
  }
  await closers.closeOnError(async () => {
    if (settings.metrics !== undefined) {
      const { instance } = audit.health()
      closers.add(await openMetrics(settings.metrics.registry, { instance, health }))
    }
    fastify.decorateRequest('tooljetEmbedUrl', function (this: FastifyRequest, lookup?: TooljetEmbedAsk) {
      const { appId, appSlug, app, replaces, ticket } = lookup ?? {}
      return embed.urlFor(this, { appId, appSlug, app, replaces, ticket })
    })
    const { prefix, logLevel, logSerializers } = options
    const routeOptions = { prefix, logLevel, logSerializers }
    // awaited: a wrong path is reported, and the module's address known, only when the route is loaded
    let routeUrl: string | undefined
    let client: ClientModule | undefined
    if (settings.route !== undefined) await fastify.register(routes(embed, { ...settings.route, authenticate }, (url) => { routeUrl = url }), routeOptions)
    if (settings.client !== undefined) await fastify.register(clientModule({ ...settings.client, routeUrl }, (module) => { client = module }), routeOptions)

    fastify.decorate('tooljetEmbed', {
      origins: [...tooljets.origins],
      forget,
      warm,
      health,
      ...(client !== undefined && { client }),
      audit: { verify: () => audit.verify() },
    })
  })
}, { name: 'fastify-tooljet-embed', fastify: '5.x' })

/** There is never a route without authentication. */
function jwtVerifyOf (fastify: FastifyInstance, settings: Settings): (request: FastifyRequest) => Promise<unknown> {
  if (settings.route !== undefined && !fastify.hasRequestDecorator('jwtVerify')) {
    throw optionError('authenticate', 'a function (request, reply) => Promise<void>; or register @fastify/jwt before this plugin; or set route: false')
  }
  return (request) => (request as WithJwt).jwtVerify()
}
