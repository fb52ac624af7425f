import { createSecretKey } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import express, { type RequestHandler, type Response } from 'express'
import { rateLimit } from 'express-rate-limit'
import { Redis } from 'ioredis'
import jwt from 'jsonwebtoken'
import { RedisStore, type RedisReply } from 'rate-limit-redis'
import { PATH, serve } from './serve.js'
import { answer, LIFE_SECONDS, mint, type CachedUrl } from './own-cache.js'

/* What a portal's own developers would write with Express: JWT, limit, GET, else mint and SET EX. No audit log, no encryption. */

type SignedIn = Response<unknown, { email: string }>

await serve(async (settings) => {
  const redis = new Redis(settings.redisUrl, { enableAutoPipelining: true })
  // as a string jsonwebtoken makes a key of it for each token, which takes it several times as long
  const secret = createSecretKey(Buffer.from(settings.jwtSecret))

  const authenticate: RequestHandler = (request, response, next) => {
    try {
      const [, token = ''] = (request.headers.authorization ?? '').split(' ')
      const { email } = jwt.verify(token, secret, { algorithms: ['HS256'] }) as { email: string }
      response.locals['email'] = email
      next()
    } catch {
      response.status(401).json({ message: 'Unauthorized' })
    }
  }
  const limit = rateLimit({
    windowMs: 60_000,
    limit: 1_000_000_000,
    keyGenerator: (_request, response) => (response as SignedIn).locals.email,
    store: new RedisStore({
      prefix: `${settings.prefix}limit:`,
      sendCommand: (command: string, ...args: string[]) => redis.call(command, ...args) as Promise<RedisReply>,
    }),
  })

  const app = express()
  app.use(express.json())
  app.post(PATH, authenticate, limit, async (request, response: SignedIn) => {
    const { email } = response.locals
    const { appId } = request.body as { appId: string }
    const key = `${settings.prefix}${email}:${appId}`
    const cached = await redis.get(key)
    if (cached !== null) {
      response.json(answer(JSON.parse(cached) as CachedUrl, 'reused'))
      return
    }
    const url = await mint(settings, email, appId)
    await redis.set(key, JSON.stringify(url), 'EX', LIFE_SECONDS)
    response.json(answer(url, 'minted'))
  })

  const server = app.listen(0, '127.0.0.1')
  await new Promise((resolve) => { server.once('listening', resolve) })
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, close: async () => server.close() }
})
