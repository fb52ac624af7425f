import { Redis } from 'ioredis'
import { planFor } from './plan.js'
import { RealRedis } from './server.js'
import { judge } from './shrink.js'

/** Schedules that run at the same time in one process: what they send to Redis leaves together. */
const AT_A_TIME = 24

/** Seeds to run, all but the last. */
export interface Range { from: number, to: number }

/** What broke, by seed. */
export interface Broken { seed: number, promises: string[] }

export function connectTo (url: string): RealRedis & { close (): void } {
  const client = new Redis(url, { enableAutoPipelining: true })
  client.on('error', (error) => { throw error })
  return Object.assign(new RealRedis(client), { close: () => client.disconnect() })
}

async function judgeRange ({ from, to }: Range, real: RealRedis): Promise<Broken[]> {
  const broken: Broken[] = []
  let next = from
  await Promise.all(Array.from({ length: AT_A_TIME }, async () => {
    while (next < to) {
      const seed = next++
      const { violations } = await judge(planFor(seed), real)
      if (violations.length > 0) broken.push({ seed, promises: [...new Set(violations.map(({ promise }) => promise))] })
    }
  }))
  return broken
}

// a process of pool.ts
if (process.send !== undefined && process.env['SIMULATION_REDIS'] !== undefined) {
  const real = connectTo(process.env['SIMULATION_REDIS'])
  process.on('message', (range: Range) => {
    judgeRange(range, real).then((broken) => process.send!({ broken }), (error: unknown) => {
      console.error(error)
      process.exit(1)
    })
  })
  process.on('disconnect', () => process.exit(0))
}
