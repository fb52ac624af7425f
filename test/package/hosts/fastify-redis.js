// @ts-check

/* A host with `@fastify/redis`: its client is the plugin's, without an option. */

import fastifyJwt from '@fastify/jwt'
import fastifyRedis from '@fastify/redis'
import Fastify from 'fastify'
import tooljetEmbed from 'fastify-tooljet-embed'

const { PORT, TOOLJET_URL = '', TOOLJET_API_TOKEN = '', REDIS_URL = '', JWT_SECRET = '' } = process.env

const app = Fastify()
app.register(fastifyJwt, { secret: JWT_SECRET })
app.register(fastifyRedis, { url: REDIS_URL })
app.register(tooljetEmbed, { tooljet: { url: TOOLJET_URL, apiToken: TOOLJET_API_TOKEN } })
app.get('/dashboard', { onRequest: (request) => request.jwtVerify() }, (request) => request.tooljetEmbedUrl({ appSlug: 'sales' }))
await app.listen({ port: Number(PORT) })
