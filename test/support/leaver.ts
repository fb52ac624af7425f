import { setImmediate as turn } from 'node:timers/promises'
import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import tooljetEmbed, { type TooljetEmbedOptions } from '../../plugin/index.js'

/*
 * Opens a host, asks, closes it, and does not call process.exit(): it ends only if nothing is left behind, and not before
 * all is done. Says which status it got, how many events only the log has, and how many timers still keep it. Without option
 * `redis` it has a client of its own that has given up, and holds no handle.
 */

const { redis = new Redis({ port: 1, lazyConnect: true, retryStrategy: () => null }).on('error', () => {}), ...options } = JSON.parse(process.argv[2]!) as TooljetEmbedOptions
const unwritten: string[] = []
const logger = { level: 'error', stream: { write: (line: string) => { unwritten.push(...(/"event":"[\w.]+"/.exec(line) ?? [])) } } }

const app = Fastify({ logger })
app.register(fastifyJwt, { secret: 'x'.repeat(32) })
app.register(tooljetEmbed, { redis, ...options })
await app.ready()
const authorization = `Bearer ${app.jwt.sign({ email: 'ana@acme.test' })}`
const { statusCode } = await app.inject({ method: 'POST', url: '/api/get-tooljet-url', payload: { appSlug: 'sales' }, headers: { authorization } })
await app.close()
for (let i = 0; i < 5; i++) await turn() // in which sockets close
const timers = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
console.log(statusCode, unwritten.length, timers)
