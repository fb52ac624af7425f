import type { Cluster, ClusterOptions, Redis } from 'ioredis'
import type { Test } from 'tap'
import { freePort, startServer, type RedisServer } from '../../example/redis.js'
import { newClient, redisClasses } from './redis-client.js'
import { until } from './until.js'

const SLOTS = 16384

/** A Redis Cluster of three masters. */
export async function startCluster (t: Pick<Test, 'teardown'>): Promise<{ servers: RedisServer[], connect: (options?: ClusterOptions) => Cluster, moveSlots: (from: number, to: number) => Promise<void> }> {
  const servers: RedisServer[] = []
  t.teardown(() => Promise.all(servers.map((server) => server.stop())))
  for (let i = 0; i < 3; i++) {
    const busPort = await freePort()
    servers.push(await startServer({ args: ['--cluster-enabled', 'yes', '--cluster-port', String(busPort), '--cluster-node-timeout', '1000', '--cluster-require-full-coverage', 'no'] }))
  }
  const clients = servers.map(({ url }) => newClient(url))
  const busPorts = await Promise.all(clients.map(async (client) => /:\d+@(\d+)/.exec(String(await client.call('CLUSTER', 'NODES')))![1]!))
  for (const [i, client] of clients.entries()) {
    const [from, to] = [Math.floor(i * SLOTS / 3), Math.floor((i + 1) * SLOTS / 3) - 1]
    await client.call('CLUSTER', 'ADDSLOTSRANGE', String(from), String(to))
    if (i > 0) await client.call('CLUSTER', 'MEET', '127.0.0.1', String(servers[0]!.port), busPorts[0]!)
  }
  await until('the cluster is whole', async () => (await Promise.all(clients.map(async (client) => {
    const info = String(await client.call('CLUSTER', 'INFO'))
    return info.includes('cluster_state:ok') && info.includes('cluster_known_nodes:3')
  }))).every(Boolean), 20_000)
  t.teardown(() => { for (const client of clients) client.disconnect() })

  const nodes = servers.map(({ port }) => ({ host: '127.0.0.1', port }))
  return {
    servers,
    connect: (options) => {
      const cluster = new redisClasses.Cluster(nodes, options)
      cluster.on('error', () => {})
      t.teardown(() => cluster.disconnect())
      return cluster
    },
    /** Moves all of a master's slots that hold keys to another one, as an operator does. */
    moveSlots: async (from, to) => {
      const [source, target] = [clients[from]!, clients[to]!]
      const [sourceId, targetId] = await Promise.all([source, target].map((client) => client.call('CLUSTER', 'MYID'))) as [string, string]
      for (let slot = Math.floor(from * SLOTS / 3); slot < Math.floor((from + 1) * SLOTS / 3); slot++) {
        const keys = await source.call('CLUSTER', 'GETKEYSINSLOT', String(slot), '100') as string[]
        if (keys.length === 0) continue
        await target.call('CLUSTER', 'SETSLOT', String(slot), 'IMPORTING', sourceId)
        await source.call('CLUSTER', 'SETSLOT', String(slot), 'MIGRATING', targetId)
        await source.call('MIGRATE', '127.0.0.1', String(servers[to]!.port), '', '0', '5000', 'KEYS', ...keys)
        for (const client of [target, source]) await client.call('CLUSTER', 'SETSLOT', String(slot), 'NODE', targetId)
      }
    },
  }
}

/** A master with a replica, watched by three Sentinels. */
export async function startSentinels (t: Test): Promise<{ master: RedisServer, replica: RedisServer, connect: () => Redis }> {
  const master = await startServer()
  const replica = await startServer({ args: ['--replicaof', `127.0.0.1 ${master.port}`] })
  const sentinels: RedisServer[] = []
  t.teardown(() => Promise.all([...sentinels, replica, master].map((server) => server.stop())))
  for (let i = 0; i < 3; i++) {
    sentinels.push(await startServer({
      config: [`sentinel monitor portal 127.0.0.1 ${master.port} 2`, 'sentinel down-after-milliseconds portal 500', 'sentinel failover-timeout portal 2000'],
      args: ['--sentinel'],
    }))
  }
  const admin = newClient(sentinels[0]!.url)
  await until('the Sentinels know each other and the replica', async () => {
    const [, ...state] = (await admin.call('SENTINEL', 'MASTER', 'portal')) as string[]
    const at = (field: string): string => state[state.indexOf(field) + 1]!
    return at('num-other-sentinels') === '2' && at('num-slaves') === '1'
  }, 20_000)
  admin.disconnect()
  return {
    master,
    replica,
    connect: () => {
      const client = new redisClasses.Redis({ sentinels: sentinels.map(({ port }) => ({ host: '127.0.0.1', port })), name: 'portal' })
      client.on('error', () => {})
      t.teardown(() => client.disconnect())
      return client
    },
  }
}
