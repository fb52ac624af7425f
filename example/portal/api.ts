import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import fastifySwaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import { SESSION_COOKIE } from './session.js'

/** The portal's OpenAPI document. To be registered before the routes; it has those with tags. */
export const apiDocument: FastifyDynamicSwaggerOptions = {
  openapi: {
    openapi: '3.1.0',
    info: { title: 'Example portal', description: 'A portal with private ToolJet apps. Sign in first: the session is a cookie.', version: '0.1.0' },
    tags: [
      { name: 'session', description: 'The demo\'s own sign-in' },
      { name: 'tooljet', description: 'The route of fastify-tooljet-embed' },
    ],
    components: { securitySchemes: { session: { type: 'apiKey', in: 'cookie', name: SESSION_COOKIE } } },
    security: [{ session: [] }], // of every operation that has none of its own
  },
  hideUntagged: true,
}

/** `/docs`: the document as a page on which it can be tried. */
export async function apiPages (scope: FastifyInstance): Promise<void> {
  await scope.register(fastifySwaggerUi, {
    routePrefix: '/docs',
    // icons in its style sheet, and one style that its script adds: the browser names another hash after an update
    transformStaticCSP: (policy) => `${policy};img-src 'self' data:;style-src 'self' 'sha256-RL3ie0nH+Lzz2YNqQN83mnU0J1ot4QL7b99vMdIX99w='`,
  })
}
