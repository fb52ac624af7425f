import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { startServer, type RedisServer } from '../example/redis.js'
import { startCluster } from '../test/support/cluster.js'
import type { Plan } from './plan.js'
import { ServerProcess } from './server-process.js'
import type { Settings } from './servers/serve.js'

export const API_TOKEN = 'api-token-of-the-benchmark'
export const JWT_SECRET = 'jwt-secret-of-the-benchmark-0123456789'

/** A Redis of the benchmark's own, and a client to look at it. */
export type BenchRedis = RedisServer & { client: Redis }

/** The processes and files of a run, and how they are removed: the last one first. */
export class Environment {
  readonly folder = mkdtempSync(join(tmpdir(), 'tooljet-embed-bench-'))
  readonly #stops: Array<() => Promise<unknown>> = []
  #closing: Promise<void> | undefined

  constructor (readonly plan: Plan) {
    this.onStop(async () => rmSync(this.folder, { recursive: true, force: true }))
  }

  async startRedis (): Promise<BenchRedis> {
    return this.#connect(await this.#started(startServer({ detached: true }), (server) => server.stop()))
  }

  /** A Cluster of three masters. */
  async startCluster (): Promise<BenchRedis[]> {
    const { servers } = await startCluster({ teardown: (stop) => this.onStop(async () => stop()) })
    return servers.map((server) => this.#connect(server))
  }

  #connect (server: RedisServer): BenchRedis {
    const client = new Redis(server.url)
    this.onStop(async () => client.disconnect())
    return { ...server, client }
  }

  /** @param profile a file for a CPU profile */
  startServer (name: string, settings: Partial<Settings>, profile?: string): Promise<ServerProcess> {
    const given = { redisUrl: '', toolJetUrl: '', apiToken: API_TOKEN, jwtSecret: JWT_SECRET, prefix: 'bench:', ...settings }
    return this.#started(ServerProcess.start(name, given, profile), (server) => server.stop())
  }

  /** Runs a part with an environment of its own, which ends with it. */
  async withScope<T> (scenario: (environment: Environment) => Promise<T>): Promise<T> {
    const inner = new Environment(this.plan)
    this.onStop(() => inner.close())
    try {
      return await scenario(inner)
    } finally {
      await inner.close()
    }
  }

  onStop (stop: () => Promise<unknown>): void {
    this.#stops.push(stop)
  }

  close (): Promise<void> {
    this.#closing ??= (async () => {
      while (this.#stops.length > 0) await this.#stops.pop()!().catch(() => {})
    })()
    return this.#closing
  }

  async #started<T> (part: Promise<T>, stop: (part: T) => Promise<unknown>): Promise<T> {
    this.onStop(async () => stop(await part))
    return part
  }
}
