import fastifyCookie from '@fastify/cookie'
import fastifyHelmet from '@fastify/helmet'
import fastifyJwt from '@fastify/jwt'
import fastifySwagger from '@fastify/swagger'
import Fastify, { type FastifyInstance } from 'fastify'
import tooljetEmbed, { type TooljetEmbedOptions } from 'fastify-tooljet-embed'
import { Redis } from 'ioredis'
import { Registry } from 'prom-client'
import { apiDocument, apiPages } from './api.js'
import { auditPage } from './audit.js'
import { AuditLog } from './audit-log.js'
import { MemoryAuditLog } from './audit-memory.js'
import { AuditTail } from './audit-tail.js'
import { readableLines } from './log.js'
import { metricsPage } from './metrics.js'
import { notFound, pages } from './pages.js'
import type { PortalApp } from './portal-app.js'
import { session, SESSION_COOKIE } from './session.js'
import { shell } from './shell.js'
import { DEMO_USERS, type DemoUser } from './users.js'

export interface PortalSettings {
  tooljet: TooljetEmbedOptions['tooljet']
  /** A redis:// or rediss:// URL. @default there is no Redis, and everything is in the memory of this process */
  redis?: string | undefined
  jwtSecret: string
  /** @default tooljet.apiToken stands in for it */
  encryptionKey?: string | undefined
  apps: readonly PortalApp[]
  /** @default the users of the stand-in ToolJet */
  users?: readonly DemoUser[]
  /** Addresses of the proxy in front, so that the audit log has the visitor's own. @default there is none */
  trustProxy?: string
  /** @default 'warn' */
  logLevel?: string
  /** `text`: a line to read for each event of the log. @default 'json' */
  logFormat?: 'text' | 'json'
  /** Further options of the plugin. */
  embed?: Partial<TooljetEmbedOptions>
}

/** Builds the portal, which does not listen yet. */
export function createPortal (settings: PortalSettings): FastifyInstance {
  const { tooljet, redis, jwtSecret, encryptionKey, apps, users = DEMO_USERS, trustProxy = false, logLevel = 'warn', logFormat = 'json', embed } = settings
  const registry = new Registry()
  const app = Fastify({ logger: { level: logLevel, ...(logFormat === 'text' && { stream: readableLines(process.stdout) }) }, trustProxy })
  const sendPage = shell({ apps, users, isWithoutRedis: redis === undefined })
  const memory = new MemoryAuditLog() // empty where there is a Redis
  const stream = embed?.audit?.stream ?? `${embed?.keyPrefix ?? 'tooljet-embed:'}audit`

  app.register(fastifyHelmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        'default-src': ["'self'"],
        // asked for at each reply: by then the plugin below is loaded
        'frame-src': [() => app.tooljetEmbed.origins.join(' ')],
        'base-uri': ["'none'"],
        'form-action': ["'self'"],
        'frame-ancestors': ["'none'"],
        'object-src': ["'none'"],
      },
    },
    // the demo is at http://localhost: a browser that remembers "https only" would never find it again
    strictTransportSecurity: false,
  })
  app.register(fastifySwagger, apiDocument)
  app.register(fastifyCookie)
  app.register(fastifyJwt, { secret: jwtSecret, cookie: { cookieName: SESSION_COOKIE, signed: false } })
  app.register(tooljetEmbed, {
    tooljet,
    redis: redis ?? noRedis(),
    ...(redis === undefined && { audit: { logger: memory.logger(app.log) } }),
    apps: Object.fromEntries(apps.map(({ alias, appId }) => [alias, { appId }])),
    metrics: { registry },
    encryptionKey,
    ...embed,
  })
  app.register(session(users))
  app.register(pages(sendPage, apps, users))
  app.setNotFoundHandler(notFound(sendPage))
  app.register(auditPage(redis === undefined
    ? { log: memory, tail: memory, stream: undefined, sendPage, users }
    : { log: new AuditLog(redis, stream), tail: new AuditTail(redis, stream), stream, sendPage, users }))
  app.register(metricsPage(registry))
  app.register(apiPages)
  return app
}

/** In place of a client: it refuses every command, and the plugin serves from its own memory. */
function noRedis (): Redis {
  const client = new Redis({ lazyConnect: true })
  client.sendCommand = () => Promise.reject(new Error('the portal was started without Redis'))
  return client
}
