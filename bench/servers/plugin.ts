import { setTimeout as sleep } from 'node:timers/promises'
import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import tooljetEmbed, { type TooljetEmbedAsk } from 'fastify-tooljet-embed'
import { connect, listen, PATH, serve } from './serve.js'

/* A host with the plugin, as the README has it. */

const UNLIMITED = { max: 1_000_000_000, mints: 1_000_000_000 }

/** Longer than the largest backlog, 10,000 events, takes to be written. */
const SETTLE_MS = 1000

await serve(async ({ redisUrl, clusterPorts, toolJetUrl, apiToken, jwtSecret, prefix, options, logLevel = 'warn', byDecorator = false, hostClient }) => {
  const app = Fastify({ logger: { level: logLevel } })
  app.register(fastifyJwt, { secret: jwtSecret })
  app.register(tooljetEmbed, {
    tooljet: { url: toolJetUrl, apiToken },
    redis: hostClient === undefined ? redisUrl : connect({ redisUrl, ...(clusterPorts && { clusterPorts }) }, hostClient),
    keyPrefix: prefix,
    rateLimit: UNLIMITED,
    ...options,
    ...(byDecorator && { route: false }),
  })
  if (byDecorator) {
    app.post<{ Body: TooljetEmbedAsk }>(PATH, { onRequest: (request) => request.jwtVerify() }, (request) => request.tooljetEmbedUrl(request.body))
  }
  const url = await listen(app)

  // an answer's work is done when its audit event is in Redis
  const settled = async (): Promise<void> => {
    const giveUpAt = performance.now() + SETTLE_MS
    while ((await app.tooljetEmbed.health()).audit.backlog > 0) {
      if (performance.now() > giveUpAt) return console.error(`audit events still wait for Redis after ${SETTLE_MS} ms without a request`)
      await sleep(5)
    }
  }
  return { url, settled, close: () => app.close() }
})
