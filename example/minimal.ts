import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import tooljetEmbed from 'fastify-tooljet-embed'

const { PORT = '3001', TOOLJET_URL = '', TOOLJET_API_TOKEN = '', REDIS_URL = '', JWT_SECRET = '' } = process.env

const app = Fastify({ logger: true })

app.register(fastifyJwt, { secret: JWT_SECRET }) // your sign-in makes the token: app.jwt.sign({ email })
app.register(tooljetEmbed, {
  tooljet: { url: TOOLJET_URL, apiToken: TOOLJET_API_TOKEN },
  redis: REDIS_URL,
})

// the plugin's own route, POST /api/get-tooljet-url, is there too
app.get('/dashboard', { onRequest: (request) => request.jwtVerify() }, async (request) => {
  const { redirectUrl } = await request.tooljetEmbedUrl({ appId: '8ba8bf0e-6b8f-4e07-abb9-6fd2d816fabc' })
  return { redirectUrl }
})

await app.listen({ port: Number(PORT) })
