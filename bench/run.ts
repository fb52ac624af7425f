import { performance } from 'node:perf_hooks'
import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import tooljetEmbed from 'fastify-tooljet-embed'
import { provideRedis } from '../example/redis.js'
import { SALES } from '../example/tooljet/seed.js'
import { ToolJetStandIn } from '../example/tooljet/server.js'

/* `npm run bench`: CPU and wall time of a hit, in one process without HTTP on the wire. */

const ROUNDS = 5
const ASKS = 2000

const redis = await provideRedis()
const toolJet = await new ToolJetStandIn({ apiToken: 'bench' }).listen()
const app = Fastify()
app.register(fastifyJwt, { secret: 'x'.repeat(32) })
app.register(tooljetEmbed, { tooljet: { url: toolJet.url, apiToken: 'bench' }, redis: redis.url, keyPrefix: `bench-${process.pid}:`, rateLimit: { max: Number.MAX_SAFE_INTEGER } })
await app.ready()
const headers = { authorization: `Bearer ${app.jwt.sign({ email: 'ana@acme.test' })}` }
const ask = async (): Promise<void> => {
  const { statusCode } = await app.inject({ method: 'POST', url: '/api/get-tooljet-url', payload: { appId: SALES.id }, headers })
  if (statusCode !== 200) throw new Error(`an ask was answered with ${statusCode}`)
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!
const cpu: number[] = []
const wall: number[] = []
await ask()
for (let round = 0; round < ROUNDS; round++) {
  const before = process.cpuUsage()
  const start = performance.now()
  for (let i = 0; i < ASKS; i += 50) await Promise.all(Array.from({ length: 50 }, ask))
  const { user, system } = process.cpuUsage(before)
  cpu.push((user + system) / ASKS)
  wall.push((performance.now() - start) * 1000 / ASKS)
}
console.table({ 'hit, by route': { 'CPU µs': Math.round(median(cpu)), 'wall µs': Math.round(median(wall)), rounds: ROUNDS, 'asks a round': ASKS } })
await app.close()
await toolJet.close()
await redis.stop()
