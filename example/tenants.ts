import fastifyJwt from '@fastify/jwt'
import Fastify, { type FastifyRequest } from 'fastify'
import tooljetEmbed, { type TooljetTarget } from 'fastify-tooljet-embed'

const { PORT = '3001', TENANTS = '{}', ENCRYPTION_KEY = '', REDIS_URL = '', JWT_SECRET = '' } = process.env

// { "acme": { "url": "https://tooljet.acme.example", "apiToken": "…" }, … }; yours may be in a database
const tenants = new Map(Object.entries(JSON.parse(TENANTS) as Record<string, TooljetTarget>))

/** By the session, like the e-mail: a header, or the host's name, would be the browser's choice. */
function tooljetOf (request: FastifyRequest): TooljetTarget | undefined {
  const { tenant } = request.user as { tenant: string }
  return tenants.get(tenant)
}

const app = Fastify({ logger: true })

app.register(fastifyJwt, { secret: JWT_SECRET }) // your sign-in makes the token: app.jwt.sign({ email, tenant })
app.register(tooljetEmbed, { tooljet: tooljetOf, encryptionKey: ENCRYPTION_KEY, redis: REDIS_URL })

app.get('/dashboard', { onRequest: (request) => request.jwtVerify() }, async (request, reply) => {
  const tooljet = tooljetOf(request)
  const frames = tooljet === undefined ? "'none'" : new URL(tooljet.url).origin
  reply.type('text/html').header('content-security-policy', `default-src 'self'; frame-src ${frames}`)
  return '<script type="module" src="/tooljet-embed.js"></script><tooljet-embed app-slug="sales"></tooljet-embed>'
})

await app.listen({ port: Number(PORT) })
