// @ts-check

/* A host in plain JavaScript that an editor checks, with a Redis client of its own. */

import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import { errorCodes, tooljetEmbed } from 'fastify-tooljet-embed'
import { Redis } from 'ioredis'

const { PORT, TOOLJET_URL = '', TOOLJET_API_TOKEN = '', REDIS_URL = '', JWT_SECRET = '' } = process.env

const redis = new Redis(REDIS_URL)
const app = Fastify()
app.register(fastifyJwt, { secret: JWT_SECRET })
app.register(tooljetEmbed, { tooljet: { url: TOOLJET_URL, apiToken: TOOLJET_API_TOKEN }, redis })
app.get('/dashboard', { onRequest: (request) => request.jwtVerify() }, async (request) => {
  // @ts-expect-error: of id and slug it takes one
  const refused = await request.tooljetEmbedUrl({ appId: '8ba8bf0e-6b8f-4e07-abb9-6fd2d816fabc', appSlug: 'sales' }).catch((error) => error)
  if (!(refused instanceof errorCodes.TOOLJET_EMBED_BAD_REQUEST)) throw new Error('it took both')
  return request.tooljetEmbedUrl({ appSlug: 'sales' })
})
await app.listen({ port: Number(PORT) })
