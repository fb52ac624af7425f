import fastifyCookie from '@fastify/cookie'
import fastifyHelmet from '@fastify/helmet'
import fastifyJwt from '@fastify/jwt'
import fastifySwagger from '@fastify/swagger'
import Fastify, { type FastifyInstance } from 'fastify'
import tooljetEmbed, { type TooljetEmbedOptions } from 'fastify-tooljet-embed'
import { Registry } from 'prom-client'
import { apiDocument, apiPages } from './api.js'
import { auditPage } from './audit.js'
import { metricsPage } from './metrics.js'
import { pages } from './pages.js'
import { session, SESSION_COOKIE } from './session.js'
import { DEMO_USERS, type DemoUser } from './users.js'

/** An app in the portal's navigation. */
export interface PortalApp {
  alias: string
  appId: string
  name: string
}

export interface PortalSettings {
  tooljet: TooljetEmbedOptions['tooljet']
  /** A redis:// or rediss:// URL. */
  redis: string
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
  /** Further options of the plugin. */
  embed?: Partial<TooljetEmbedOptions>
}

/** Builds the portal, which does not listen yet. */
export function createPortal (settings: PortalSettings): FastifyInstance {
  const { tooljet, redis, jwtSecret, encryptionKey, apps, users = DEMO_USERS, trustProxy = false, logLevel = 'warn', embed } = settings
  const registry = new Registry()
  const app = Fastify({ logger: { level: logLevel }, trustProxy })

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
    redis,
    apps: Object.fromEntries(apps.map(({ alias, appId }) => [alias, { appId }])),
    metrics: { registry },
    encryptionKey,
    ...embed,
  })
  app.register(session(users))
  app.register(pages(apps, users))
  app.register(auditPage({ redis, stream: embed?.audit?.stream ?? `${embed?.keyPrefix ?? 'tooljet-embed:'}audit`, users }))
  app.register(metricsPage(registry))
  app.register(apiPages)
  return app
}
