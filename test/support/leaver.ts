import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import tooljetEmbed, { type TooljetEmbedOptions } from '../../plugin/index.js'

/* Opens a host, asks, closes it, and does not call process.exit(): it ends only if nothing is left behind. */

const app = Fastify()
app.register(fastifyJwt, { secret: 'x'.repeat(32) })
app.register(tooljetEmbed, JSON.parse(process.argv[2]!) as TooljetEmbedOptions)
await app.ready()
const authorization = `Bearer ${app.jwt.sign({ email: 'ana@acme.test' })}`
const { statusCode } = await app.inject({ method: 'POST', url: '/api/get-tooljet-url', payload: { appSlug: 'sales' }, headers: { authorization } })
await app.close()
console.log(statusCode)
