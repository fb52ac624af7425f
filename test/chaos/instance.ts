import { randomUUID } from 'node:crypto'
import fastifyJwt from '@fastify/jwt'
import Fastify, { LogController } from 'fastify'
import { pino } from 'pino'
import tooljetEmbed, { type TooljetEmbedOptions } from '../../plugin/index.js'

/*
 * One portal process of a chaos run, started by life.ts: tells its parent of what nobody caught, says in each answer when it was sent, and
 * logs to stdout; of the audit events only those that Redis did not get.
 */

const { secret, options } = JSON.parse(process.env['INSTANCE']!) as { secret: string, options: TooljetEmbedOptions }

const CRASHED = 70
for (const event of ['unhandledRejection', 'uncaughtException'] as const) {
  process.on(event, (error: unknown) => {
    process.send?.({ crash: `${event}: ${error instanceof Error ? error.stack : String(error)}` })
    setTimeout(() => process.exit(CRASHED), 100)
  })
}

const loggerInstance = pino({ level: 'info' })
const app = Fastify({
  loggerInstance,
  logController: new LogController({ disableRequestLogging: true }),
  genReqId: (request) => String(request.headers['x-request-id'] ?? randomUUID()),
})
app.addHook('onSend', async (_request, reply) => { reply.header('x-sent-at', Date.now()) })
app.register(fastifyJwt, { secret })
app.register(tooljetEmbed, { ...options, audit: { ...options.audit, logger: loggerInstance.child({}, { level: 'error' }) } })
app.get('/by-decorator', { onRequest: (request) => request.jwtVerify() }, (request) => request.tooljetEmbedUrl(request.query as object))
app.post('/forget', async (request) => ({ dropped: await app.tooljetEmbed.forget(request.body as { email: string, appId: string }) }))
const url = await app.listen({ port: 0, host: '127.0.0.1' })

process.on('SIGINT', () => { /* Ctrl-C goes to all: the parent decides who ends when */ })
process.once('SIGTERM', () => { app.close().then(() => process.exit(0), () => process.exit(1)) })
process.once('disconnect', () => process.exit(0)) // the parent is gone
process.on('message', () => {
  globalThis.gc?.()
  process.send!({ memory: process.memoryUsage() })
})
process.send!({ url, instance: (await app.tooljetEmbed.health()).audit.instance })
