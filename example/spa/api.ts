import fastifyCors from '@fastify/cors'
import fastifyJwt, { type Secret } from '@fastify/jwt'
import Fastify, { type FastifyInstance } from 'fastify'
import tooljetEmbed, { type TooljetEmbedOptions } from 'fastify-tooljet-embed'
import { DEMO_USERS } from '../portal/users.js'
import { INVENTORY, SALES } from '../tooljet/seed.js'

export interface ApiSettings {
  /** Of the page: no page of another origin may read what the API answers. */
  pageOrigin: string
  jwtSecret: Secret
  tooljet: TooljetEmbedOptions['tooljet']
  redis: string
  /** How long a token lives. @default 300 */
  tokenSeconds?: number
  /** Further options of the plugin. */
  embed?: Partial<TooljetEmbedOptions>
}

/** Those of the portal, but for its auditor: here is no audit page. */
export const USERS = DEMO_USERS.filter(({ isAdmin }) => isAdmin !== true)

/** Builds the API, which does not listen yet: it tells by a bearer token who asks, and knows no cookie. */
export function createApi ({ pageOrigin, jwtSecret, tooljet, redis, tokenSeconds = 300, embed }: ApiSettings): FastifyInstance {
  const app = Fastify({ logger: { level: 'warn' } })

  app.register(fastifyCors, { origin: pageOrigin }) // without `credentials`: browsers send no cookie here, and take none
  app.register(fastifyJwt, { secret: jwtSecret }) // reads `Authorization: Bearer …`
  app.register(tooljetEmbed, {
    tooljet,
    redis,
    apps: { sales: { appId: SALES.id }, inventory: { appId: INVENTORY.id } },
    client: false, // the page has the element in its bundle
    ...embed,
  })
  app.register(tokens)
  return app

  /** A real API checks a password here, or leaves all of it to an identity provider. */
  async function tokens (scope: FastifyInstance): Promise<void> {
    const expiresIn = tokenSeconds

    scope.get('/api/demo-users', async () => USERS)

    scope.post<{ Body: { email?: unknown } | null }>('/api/token', async (request, reply) => {
      const user = USERS.find(({ email }) => email === request.body?.email)
      if (user === undefined) return reply.code(401).send({ statusCode: 401, error: 'Unauthorized', message: 'This is not one of the demo users.' })
      return { token: await reply.jwtSign({ email: user.email }, { expiresIn }), expiresIn }
    })

    scope.post('/api/token/next', { onRequest: (request) => request.jwtVerify() }, async (request, reply) => {
      const { email } = request.user as { email: string }
      return { token: await reply.jwtSign({ email }, { expiresIn }), expiresIn }
    })
  }
}
