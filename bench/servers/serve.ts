import type { FastifyInstance } from 'fastify'
import { Cluster, Redis } from 'ioredis'
import type { TooljetEmbedOptions } from 'fastify-tooljet-embed'

/* Shared by all servers of the benchmark: each is compiled, and a process of its own that talks to its parent. */

/** What a server gets from its parent. */
export interface Settings {
  redisUrl: string
  /** Of a Cluster's masters, in place of the URL. */
  clusterPorts?: number[]
  toolJetUrl: string
  apiToken: string
  jwtSecret: string
  /** Start of all keys in Redis. */
  prefix: string
  /** Of the plugin, besides the above. */
  options?: Partial<TooljetEmbedOptions>
  /** @default 'warn' */
  logLevel?: string
  /** Answer from a route of the host's by the decorator, and not from the plugin's own. */
  byDecorator?: boolean
  /** Options of a client that the host makes itself; none: the plugin is given the URL. */
  hostClient?: { enableAutoPipelining?: boolean }
  /** Of the stand-in ToolJet. */
  toolJet?: { latencyMs: number, mintsPerMinute: number, minuteMs: number }
}

export interface Server {
  url: string
  /** Numbers that the parent may ask for by name; `cpu`, in µs, each server has. */
  figures?: Record<string, () => number>
  /** Resolves when everything that the answers so far have caused is done. */
  settled?: () => Promise<void>
  close: () => Promise<unknown>
}

export const PATH = '/api/get-tooljet-url'

export async function serve (start: (settings: Settings) => Promise<Server>): Promise<void> {
  process.on('disconnect', () => process.exit(0)) // never outlives its parent
  const server = await start(JSON.parse(process.env['BENCH']!) as Settings)
  const figures: Record<string, () => number> = { cpu: cpuMicroseconds, ...server.figures }

  process.on('message', async (name: string) => {
    if (name === 'close') {
      await server.close()
      process.exit(0)
    }
    await server.settled?.()
    process.send!({ name, figure: figures[name]!() })
  })
  process.send!({ url: server.url })
}

/** A client for the benchmark's Redis, or for its Cluster. */
export function connect ({ redisUrl, clusterPorts }: Pick<Settings, 'redisUrl' | 'clusterPorts'>, options: { enableAutoPipelining?: boolean }): Redis | Cluster {
  return clusterPorts === undefined ? new Redis(redisUrl, options) : new Cluster(clusterPorts.map((port) => ({ host: '127.0.0.1', port })), options)
}

export function listen (app: FastifyInstance): Promise<string> {
  return app.listen({ port: 0, host: '127.0.0.1' })
}

/** Of all threads. */
function cpuMicroseconds (): number {
  const { user, system } = process.cpuUsage()
  return user + system
}
