import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import { connect, listen, PATH, serve } from './serve.js'
import { answer, LIFE_SECONDS, mint, SCHEMA, type CachedUrl } from './own-cache.js'

/* The least that any solution with Redis must do: verify the JWT, one GET, send JSON. No rate limit, no audit log, no encryption. */

await serve(async (settings) => {
  const redis = connect(settings, { enableAutoPipelining: true })
  const app = Fastify({ logger: { level: 'warn' } })
  app.register(fastifyJwt, { secret: settings.jwtSecret })

  app.post<{ Body: { appId: string } }>(PATH, { schema: SCHEMA, onRequest: (request) => request.jwtVerify() }, async (request) => {
    const { email } = request.user as { email: string }
    const { appId } = request.body
    const key = `${settings.prefix}${email}:${appId}`
    const cached = await redis.get(key)
    if (cached !== null) return answer(JSON.parse(cached) as CachedUrl, 'reused')
    const url = await mint(settings, email, appId)
    await redis.set(key, JSON.stringify(url), 'EX', LIFE_SECONDS)
    return answer(url, 'minted')
  })
  return { url: await listen(app), close: () => app.close() }
})
