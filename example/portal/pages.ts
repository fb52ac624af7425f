import { fileURLToPath } from 'node:url'
import fastifyStatic from '@fastify/static'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { PortalApp } from './portal-app.js'
import { orSignIn } from './session.js'
import type { SendPage } from './shell.js'
import { isAdmin, type DemoUser } from './users.js'

/** The portal's pages, and what their scripts need to know. */
export function pages (sendPage: SendPage, apps: readonly PortalApp[], users: readonly DemoUser[]) {
  return async function pageRoutes (scope: FastifyInstance): Promise<void> {
    await scope.register(fastifyStatic, { root: fileURLToPath(new URL('public', import.meta.url)), prefix: '/assets/', index: false })

    // no-store: after signing out, "back" shows nothing of the session
    scope.addHook('onRequest', async (_request, reply) => { reply.header('cache-control', 'no-store') })

    scope.get('/sign-in', (_request, reply) => sendPage(reply, 'sign-in'))
    scope.get('/', { onRequest: orSignIn }, (_request, reply) => sendPage(reply, 'apps'))
    scope.get('/snippet', { onRequest: orSignIn }, (_request, reply) => sendPage(reply, 'snippet'))

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

/** For paths that nothing has: a page for who reads, JSON for who calls. */
export function notFound (sendPage: SendPage) {
  return async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
    reply.code(404).header('cache-control', 'no-store')
    const { method, url, headers: { accept = '' } } = request
    if (!accept.includes('text/html')) return { statusCode: 404, error: 'Not Found', message: `Route ${method}:${url} not found` }
    await request.jwtVerify().catch(() => { /* a guest may see it, too */ })
    return sendPage(reply, 'not-found')
  }
}
