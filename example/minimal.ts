import fastifyCookie from '@fastify/cookie'
import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import tooljetEmbed from 'fastify-tooljet-embed'

const { PORT = '3001', TOOLJET_URL = '', TOOLJET_API_TOKEN = '', REDIS_URL = '', JWT_SECRET = '' } = process.env

const app = Fastify({ logger: true })

// your sign-in sets the cookie: reply.setCookie('token', app.jwt.sign({ email }), { httpOnly: true, secure: true, sameSite: 'lax', path: '/' })
app.register(fastifyCookie)
app.register(fastifyJwt, { secret: JWT_SECRET, cookie: { cookieName: 'token', signed: false } })
app.register(tooljetEmbed, {
  tooljet: { url: TOOLJET_URL, apiToken: TOOLJET_API_TOKEN },
  redis: REDIS_URL,
  apps: { sales: { appId: '8ba8bf0e-6b8f-4e07-abb9-6fd2d816fabc' } },
})

// the plugin's own route, POST /api/get-tooljet-url, is there too
app.get('/dashboard', { onRequest: (request) => request.jwtVerify() }, async (request) => {
  const { redirectUrl } = await request.tooljetEmbedUrl({ app: 'sales' })
  return { redirectUrl }
})

await app.listen({ port: Number(PORT) })
