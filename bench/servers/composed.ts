import fastifyJwt from '@fastify/jwt'
import fastifyRateLimit from '@fastify/rate-limit'
import { createCache } from 'async-cache-dedupe'
import Fastify, { type FastifyRequest } from 'fastify'
import { Redis } from 'ioredis'
import { listen, PATH, serve } from './serve.js'
import { answer, LIFE_SECONDS, mint, SCHEMA } from './own-cache.js'

/* Fastify's own parts, put together: @fastify/jwt, @fastify/rate-limit, async-cache-dedupe. No audit log, no encryption. */

const emailOf = (request: FastifyRequest): string => (request.user as { email: string }).email

await serve(async (settings) => {
  const redis = new Redis(settings.redisUrl, { enableAutoPipelining: true })
  const cache = createCache({ ttl: LIFE_SECONDS - 60, storage: { type: 'redis', options: { client: redis } } })
    .define(`${settings.prefix}url`, ({ email, appId }: { email: string, appId: string }) => mint(settings, email, appId))
  const urlFor = cache[`${settings.prefix}url`]!

  const app = Fastify({ logger: { level: 'warn' } })
  app.register(fastifyJwt, { secret: settings.jwtSecret })
  await app.register(fastifyRateLimit, {
    redis,
    nameSpace: `${settings.prefix}limit:`,
    max: 1_000_000_000,
    timeWindow: 60_000,
    hook: 'preHandler',
    keyGenerator: emailOf,
  })
  app.post<{ Body: { appId: string } }>(PATH, { schema: SCHEMA, onRequest: (request) => request.jwtVerify() }, async (request) => {
    return answer(await urlFor({ email: emailOf(request), appId: request.body.appId }), 'reused')
  })
  return { url: await listen(app), close: () => app.close() }
})
