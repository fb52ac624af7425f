import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { spellingOf, type DemoUser } from './users.js'

/** The cookie that holds the session's JWT. */
export const SESSION_COOKIE = 'portal_session'
const SESSION_HOURS = 8

/** Signing in and out. A real portal checks a password here, or lets an identity provider do it. */
export function session (users: readonly DemoUser[]) {
  return async function sessionRoutes (scope: FastifyInstance): Promise<void> {
    // for plain HTML forms; in this scope only, so that no other route takes what a foreign page's form may send
    scope.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, async (_request: FastifyRequest, body: string) => (
      Object.fromEntries(new URLSearchParams(body))
    ))

    scope.get('/api/demo-users', async () => users)

    const body = { type: 'object', required: ['email'], properties: { email: { type: 'string', maxLength: 254 } }, examples: [{ email: users[0]?.email }] }
    const schema = { tags: ['session'], summary: 'Signs in as a demo user', security: [], body }
    scope.post<{ Body: { email: string } }>('/sign-in', { schema }, async (request, reply) => {
      const email = spellingOf(request.body.email)
      const user = users.find((user) => spellingOf(user.email) === email)
      if (user === undefined) {
        return reply.code(401).send({ statusCode: 401, error: 'Unauthorized', message: 'This is not one of the demo users.' })
      }
      const token = scope.jwt.sign({ email: user.email }, { expiresIn: `${SESSION_HOURS}h` })
      reply.setCookie(SESSION_COOKIE, token, { path: '/', httpOnly: true, sameSite: 'strict', secure: 'auto', maxAge: SESSION_HOURS * 3600 })
      if (request.headers['content-type']?.startsWith('application/json')) return { email: user.email }
      return reply.redirect('/', 303)
    })

    scope.post('/sign-out', async (_request, reply) => {
      reply.clearCookie(SESSION_COOKIE, { path: '/' })
      return reply.redirect('/sign-in', 303)
    })
  }
}

/** For pages: who is not signed in goes to the sign-in page. */
export async function orSignIn (request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
  try {
    await request.jwtVerify()
  } catch {
    return reply.redirect('/sign-in')
  }
}
