import type { MintLimit } from '../plugin/tooljet/mint-limit.js'
import { runRush, type RushResult } from '../test/simulation/rush.js'
import { connectTo } from '../test/simulation/worker.js'
import type { Environment } from './environment.js'

/** ToolJet's documented limit. */
const TEN_A_MINUTE = { max: 10, timeWindow: 60_000 }
const INSTANCES = 4

/** Without pacing, all waiting users come back at the end of each pause, as before there was a queue. */
const MINT_LIMITS: Record<string, MintLimit> = {
  'no pacing (`mintLimit: false`)': false,
  "`'auto'`": 'auto',
  '`{ max: 10, timeWindow: 60_000 }`': TEN_A_MINUTE,
}

export interface LoginStormResult {
  users: number
  instances: number
  /** Time in which the users sign in, ms. */
  within: number
  runs: { title: string, result: RushResult }[]
}

/**
 * Many users sign in within a short time, as on a Monday morning, while ToolJet allows ten mints a minute: real instances and
 * scripts in virtual time, so that hours take minutes. The rate is that of 5,000 users in half an hour.
 */
export function loginStorm (environment: Environment): Promise<LoginStormResult> {
  const { users } = environment.plan.loginStorm
  const within = users * 360
  return environment.withScope(async (inner) => {
    const redis = await inner.startRedis()
    const real = connectTo(redis.url)
    inner.onStop(async () => real.close())
    const runs = []
    for (const [title, mintLimit] of Object.entries(MINT_LIMITS)) {
      runs.push({ title, result: await runRush({ seed: 1, users, within, instances: INSTANCES, mintLimit, toolJet: TEN_A_MINUTE }, real) })
    }
    return { users, instances: INSTANCES, within, runs }
  })
}
