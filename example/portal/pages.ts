import { fileURLToPath } from 'node:url'
import fastifyStatic from '@fastify/static'
import type { FastifyInstance } from 'fastify'
import type { PortalApp } from './portal.js'
import { orSignIn } from './session.js'
import { isAdmin, type DemoUser } from './users.js'

/** The portal's pages, and what their scripts need to know. */
export function pages (apps: readonly PortalApp[], users: readonly DemoUser[]) {
  return async function pageRoutes (scope: FastifyInstance): Promise<void> {
    await scope.register(fastifyStatic, { root: fileURLToPath(new URL('public', import.meta.url)), prefix: '/assets/', index: false })

    // no-store: after signing out, "back" shows nothing of the session
    scope.addHook('onRequest', async (_request, reply) => { reply.header('cache-control', 'no-store') })

    scope.get('/sign-in', (_request, reply) => reply.sendFile('sign-in.html', { cacheControl: false }))
    scope.get('/', { onRequest: orSignIn }, (_request, reply) => reply.sendFile('portal.html', { cacheControl: false }))
    scope.get('/snippet', { onRequest: orSignIn }, (_request, reply) => reply.sendFile('snippet.html', { cacheControl: false }))

    scope.get('/api/me', { onRequest: (request) => request.jwtVerify() }, async (request) => {
      const { email } = request.user as { email: string }
      const name = users.find((user) => user.email === email)?.name ?? email
      return { email, name, isAdmin: isAdmin(users, email), apps, emails: users.map(({ email }) => email) }
    })

    // for health checks: says no more than they need, since anyone may ask
    scope.get('/health', async () => {
      const { redis } = await scope.tooljetEmbed.health()
      return { status: 'ok', redis: redis.state }
    })
  }
}
