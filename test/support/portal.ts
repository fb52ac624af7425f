import { randomBytes } from 'node:crypto'
import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import fastifyJwt from '@fastify/jwt'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import type { Cluster, Redis } from 'ioredis'
import { pino } from 'pino'
import type { Test } from 'tap'
import tooljetEmbed, { type QueuePosition, type TooljetEmbedOptions, type TooljetEmbedUrl, type TooljetTarget } from '../../plugin/index.js'
import { INVENTORY, SALES } from '../../example/tooljet/seed.js'
import { ToolJetStandIn, type ToolJetOptions } from '../../example/tooljet/server.js'
import { newClient } from './redis-client.js'
import { cacheFields, dump, keysOf, pluginRedisUrl, sharedRedisUrl, stopOwnRedis } from './redis.js'
import { until } from './until.js'

export { INVENTORY, SALES }

export const API_TOKEN = 'api-token-of-the-tests-7f3b'
export const JWT_SECRET = 'jwt-secret-of-the-tests-0123456789abcdef'
export const ANA = 'ana@acme.test'
export const BEN = 'ben@acme.test'
export const CLEO = 'cleo@acme.test'

export interface Reply {
  status: number
  headers: Record<string, string | string[] | number | undefined>
  body: TooljetEmbedUrl & { statusCode: number, code: string, error: string, message: string, retryAfter: number, queue: QueuePosition }
}

export interface PortalSetup {
  options?: Partial<TooljetEmbedOptions>
  /** `tooljet.mintLimit` */
  mintLimit?: TooljetTarget['mintLimit']
  /** Others of `tooljet.*`. */
  target?: Partial<TooljetTarget>
  toolJet?: Partial<ToolJetOptions>
  fastify?: FastifyServerOptions
  /** Registers what a host has besides, before the plugin. */
  before?: (app: FastifyInstance) => void | Promise<void>
  /** Another Redis than the one all tests share, by its URL or a client of one's own. */
  redisUrl?: string
  redis?: Redis | Cluster
}

/** A name of its own for all keys of one test. */
export function newPrefix (): string {
  return `test-${randomBytes(6).toString('hex')}:`
}

/** A host with the plugin, a stand-in ToolJet and a Redis, all real and all gone after the test. */
export class Portal {
  readonly logLines: Record<string, unknown>[] = []
  #logText = ''

  private constructor (readonly app: FastifyInstance, readonly toolJet: ToolJetStandIn, readonly redis: Redis, readonly prefix: string, readonly all: readonly Portal[]) {}

  static async open (t: Test, setup: PortalSetup = {}): Promise<Portal> {
    const portals = await Portal.openSeveral(t, 1, setup)
    return portals[0]!
  }

  /** Several instances in one process that share Redis and ToolJet. */
  static async openSeveral (t: Test, count: number, { options = {}, mintLimit, target = {}, toolJet = {}, fastify = {}, before, redisUrl, redis: client }: PortalSetup = {}): Promise<Portal[]> {
    const standIn = await new ToolJetStandIn({ apiToken: API_TOKEN, ...toolJet }).listen()
    const redis = client as Redis | undefined ?? newClient(redisUrl ?? await sharedRedisUrl())
    const given = client ?? (redisUrl === undefined ? newClient(await pluginRedisUrl()) : redis)
    const prefix = newPrefix()
    const portals: Portal[] = []
    t.teardown(async () => {
      for (const { app } of portals) await app.close()
      await standIn.close()
      if (redisUrl === undefined && client === undefined) { // one of its own is gone as a whole
        const left = await keysOf(redis, prefix)
        if (left.length > 0) await Promise.all(left.map((key) => redis.del(key)))
      }
      redis.disconnect()
      given.disconnect()
    })
    for (let i = 0; i < count; i++) {
      const sink = new Writable({
        write (chunk, _encoding, done) {
          portal.#logText += String(chunk)
          for (const line of String(chunk).trim().split('\n')) portal.logLines.push(JSON.parse(line) as Record<string, unknown>)
          done()
        },
      })
      const app = Fastify({ loggerInstance: pino({ level: 'trace' }, sink), ...fastify })
      const portal = new Portal(app, standIn, redis, prefix, portals)
      portals.push(portal)
      app.register(fastifyJwt, { secret: JWT_SECRET })
      await before?.(app)
      app.register(tooljetEmbed, { tooljet: { url: standIn.url, apiToken: API_TOKEN, ...(mintLimit !== undefined && { mintLimit }), ...target }, redis: given, keyPrefix: prefix, ...options })
      app.get('/by-decorator', { onRequest: (request) => request.jwtVerify() }, (request) => request.tooljetEmbedUrl(request.query as object))
      await app.ready()
    }
    return portals
  }

  get logText (): string {
    return this.#logText
  }

  forgetLog (): void {
    this.#logText = ''
    this.logLines.length = 0
  }

  bearer (email: string): { authorization: string } {
    return { authorization: `Bearer ${this.app.jwt.sign({ email })}` }
  }

  /** Asks the route as a signed-in user. */
  async ask (email: string, body: object | string = { appId: SALES.id }, headers: Record<string, string> = {}): Promise<Reply> {
    const reply = await this.app.inject({
      method: 'POST', url: '/api/get-tooljet-url', payload: body, headers: { ...this.bearer(email), 'content-type': 'application/json', ...headers },
    })
    return { status: reply.statusCode, headers: reply.headers, body: reply.json() }
  }

  /** Asks the decorator. */
  async askByDecorator (email: string, query: Record<string, string> = { appId: SALES.id }): Promise<Reply> {
    const reply = await this.app.inject({ method: 'GET', url: '/by-decorator', query, headers: this.bearer(email) })
    return { status: reply.statusCode, headers: reply.headers, body: reply.json() }
  }

  /** The audit entries about answers, once all that instances have are written; `all`: about instances, too. */
  async audit ({ all = false } = {}): Promise<Record<string, string>[]> {
    await until('the audit backlogs are written', async () => {
      const healths = await Promise.all(this.all.map(({ app }) => app.tooljetEmbed.health()))
      return healths.every(({ audit }) => audit.backlog === 0)
    })
    return (await readStream(this.redis, `${this.prefix}audit`)).filter(({ event }) => all || event!.startsWith('url.'))
  }

  /** What the cache holds of one kind. */
  async cached (kind: Parameters<typeof cacheFields>[2]): Promise<Awaited<ReturnType<typeof cacheFields>>> {
    return cacheFields(this.redis, this.prefix, kind)
  }

  async keys (): Promise<string[]> {
    return keysOf(this.redis, this.prefix)
  }

  async dumpRedis (): Promise<string> {
    const keys = await this.keys()
    return (await Promise.all(keys.map(async (key) => `${key} ${await dump(this.redis, key)}`))).join('\n')
  }
}

/**
 * Until Redis is back for all of them.
 * @param timeoutMs of their waits, where another instance may not have noticed yet that it was away: what was sent before can
 * time out until then
 */
export async function redisIsBack (portals: readonly Portal[], timeoutMs = 0): Promise<void> {
  const allUp = (): Promise<unknown> => Promise.all(portals.map(({ app }) => until('Redis is back', async () => (await app.tooljetEmbed.health()).redis.state === 'up')))
  await allUp()
  await sleep(timeoutMs)
  await allUp()
}

export async function readStream (redis: Redis, stream: string): Promise<Record<string, string>[]> {
  return (await redis.xrange(stream, '-', '+')).map(([, flat]) => {
    return Object.fromEntries(flat.flatMap((key, i) => (i % 2 === 0 ? [[key, flat[i + 1]!]] : [])))
  })
}

/** To be called once by each file that uses the shared Redis. */
export function releaseRedisAfter (t: Pick<Test, 'teardown'>): void {
  t.teardown(stopOwnRedis)
}
