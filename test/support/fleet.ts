import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import type { Redis } from 'ioredis'
import type { Test } from 'tap'
import { Agent, request } from 'undici'
import type { TooljetEmbedOptions } from '../../plugin/index.js'
import { ToolJetStandIn, type ToolJetOptions } from '../../example/tooljet/server.js'
import { API_TOKEN, JWT_SECRET, newPrefix, readStream, SALES, type Reply } from './portal.js'
import { newClient } from './redis-client.js'
import { keysOf, pluginRedisUrl, sharedRedisUrl } from './redis.js'
import { plainEnv } from './plain-env.js'
import { until } from './until.js'

const signer = Fastify()
await signer.register(fastifyJwt, { secret: JWT_SECRET })

/** One process with the plugin. */
class Instance {
  constructor (readonly process: ChildProcess, readonly url: string, readonly date: number, private readonly agent: Agent) {}

  async ask (email: string, body: object = { appId: SALES.id }): Promise<Reply> {
    return this.#request('POST', '/api/get-tooljet-url', email, body)
  }

  async askByDecorator (email: string, query: Record<string, string> = { appId: SALES.id }): Promise<Reply> {
    return this.#request('GET', `/by-decorator?${new URLSearchParams(query).toString()}`, email)
  }

  async #request (method: 'GET' | 'POST', path: string, email: string, body?: object): Promise<Reply> {
    const reply = await request(this.url + path, {
      method,
      dispatcher: this.agent,
      headers: { authorization: `Bearer ${signer.jwt.sign({ email })}`, ...(body && { 'content-type': 'application/json' }) },
      ...(body && { body: JSON.stringify(body) }),
    })
    return { status: reply.statusCode, headers: reply.headers, body: await reply.body.json() as Reply['body'] }
  }

  /** kill -9 */
  async kill (): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return
    const exited = once(this.process, 'exit')
    this.process.kill('SIGKILL')
    await exited
  }

  /** As an orchestrator stops it. @returns the exit code */
  async stop (): Promise<number | null> {
    const exited = once(this.process, 'exit')
    this.process.kill('SIGTERM')
    const [code] = await exited as [number | null]
    return code
  }
}

export interface Fleet {
  instances: Instance[]
  toolJet: ToolJetStandIn
  redis: Redis
  prefix: string
  /** The audit entries about answers, once there are as many. */
  audit (atLeast: number): Promise<Record<string, string>[]>
}

/** Several processes that share a Redis and a stand-in ToolJet; `shiftsMs`: how wrong the wall clock of each is. */
export async function startFleet (t: Test, count: number, { options = {}, toolJet = {}, shiftsMs = [] }: { options?: Partial<TooljetEmbedOptions>, toolJet?: Partial<ToolJetOptions>, shiftsMs?: number[] } = {}): Promise<Fleet> {
  const standIn = await new ToolJetStandIn({ apiToken: API_TOKEN, ...toolJet }).listen()
  const redis = newClient(await sharedRedisUrl())
  const prefix = newPrefix()
  const agent = new Agent({ connections: 256 })
  const instances: Instance[] = []
  t.teardown(async () => {
    await Promise.all(instances.map((instance) => instance.kill()))
    await agent.destroy()
    await standIn.close()
    const left = await keysOf(redis, prefix)
    await Promise.all(left.map((key) => redis.del(key)))
    redis.disconnect()
  })
  const { tooljet, ...others } = options
  const given = { tooljet: { url: standIn.url, apiToken: API_TOKEN, ...tooljet }, redis: await pluginRedisUrl(), keyPrefix: prefix, ...others }
  instances.push(...await Promise.all(Array.from({ length: count }, (_, i) => startInstance(given, agent, shiftsMs[i] ?? 0))))

  const audit = async (atLeast: number): Promise<Record<string, string>[]> => until(`${atLeast} audit events`, async () => {
    const events = (await readStream(redis, `${prefix}audit`)).filter(({ event }) => event!.startsWith('url.'))
    return events.length >= atLeast ? events : undefined
  })
  return { instances, toolJet: standIn, redis, prefix, audit }
}

async function startInstance (options: object, agent: Agent, shiftMs: number): Promise<Instance> {
  const file = (name: string): string => fileURLToPath(new URL(name, import.meta.url))
  const child = fork(file('./instance.ts'), {
    execArgv: ['--import', 'tsx', ...(shiftMs === 0 ? [] : ['--import', file('./shifted-date.ts')])],
    env: { ...plainEnv(), INSTANCE: JSON.stringify({ secret: JWT_SECRET, options }), SHIFT_MS: String(shiftMs) },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const [{ url, date }] = await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(([code]) => { throw new Error(`an instance ended with code ${String(code)}`) }),
  ]) as [{ url: string, date: number }]
  return new Instance(child, url, date, agent)
}
