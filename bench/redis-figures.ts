import type { Redis } from 'ioredis'

/** Counters of Redis since its start. */
export interface RedisFigures {
  /** µs of its main thread. */
  cpu: number
  /** Commands carried out, those that scripts call too. */
  commands: number
  /** How often it read from a client's socket: commands that were sent together come in one read. */
  reads: number
}

/** Commands of this process, which do not belong to the load. */
const OWN = new Set(['info', 'ping', 'config|resetstat'])

async function redisFigures (redis: Redis): Promise<RedisFigures> {
  const [cpu, stats, commands] = await Promise.all([redis.info('cpu'), redis.info('stats'), redis.info('commandstats')])
  const calls = [...commands.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)].filter(([, name]) => !OWN.has(name!))
  return {
    cpu: (valueOf(cpu, 'used_cpu_user_main_thread') + valueOf(cpu, 'used_cpu_sys_main_thread')) * 1e6,
    commands: calls.reduce((sum, [, , count]) => sum + Number(count), 0),
    reads: valueOf(stats, 'total_reads_processed'),
  }
}

/** Of all masters. */
export async function sumOfFigures (clients: readonly Redis[]): Promise<RedisFigures> {
  const all = await Promise.all(clients.map(redisFigures))
  return all.reduce((sum, { cpu, commands, reads }) => ({ cpu: sum.cpu + cpu, commands: sum.commands + commands, reads: sum.reads + reads }))
}

/** µs of Redis's main thread that the work costs. */
export async function redisCpuOf (redis: Redis, work: () => Promise<unknown>): Promise<number> {
  const before = await redisFigures(redis)
  await work()
  return (await redisFigures(redis)).cpu - before.cpu
}

function valueOf (info: string, name: string): number {
  return Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)?.[1])
}
