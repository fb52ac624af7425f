import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import tooljetEmbed, { type TooljetEmbedOptions } from '../../plugin/index.js'

/* One portal process of a fleet, started by fleet.ts. */

const { secret, options } = JSON.parse(process.env['INSTANCE']!) as { secret: string, options: TooljetEmbedOptions }
const app = Fastify()
app.register(fastifyJwt, { secret })
app.register(tooljetEmbed, options)
app.get('/by-decorator', { onRequest: (request) => request.jwtVerify() }, (request) => request.tooljetEmbedUrl(request.query as object))
const url = await app.listen({ port: 0, host: '127.0.0.1' })
process.once('SIGTERM', () => { app.close().then(() => process.exit(0), () => process.exit(1)) })
process.send!({ url, date: Date.now() })
