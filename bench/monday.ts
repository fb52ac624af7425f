import type { MintLimit } from '../plugin/tooljet/mint-limit.js'
import { runRush, type RushResult } from '../test/simulation/rush.js'
import { connectTo } from '../test/simulation/worker.js'
import type { World } from './world.js'

/** ToolJet's documented limit. */
const TEN_A_MINUTE = { max: 10, timeWindow: 60_000 }
const INSTANCES = 4

/** Without pacing all who wait come at the end of each pause, as they did before there was a queue. */
const WAYS: Record<string, MintLimit> = {
  'no pacing (`mintLimit: false`)': false,
  "`'auto'`": 'auto',
  '`{ max: 10, timeWindow: 60_000 }`': TEN_A_MINUTE,
}

export interface MondayResult {
  users: number
  instances: number
  /** ms */
  within: number
  mornings: { way: string, result: RushResult }[]
}

/**
 * Users of a portal come within a short time, while ToolJet allows ten mints a minute: real instances and scripts in
 * virtual time, so that a morning of hours takes minutes. How many come in a minute is as with 5,000 in half an hour.
 */
export function monday (world: World): Promise<MondayResult> {
  const { users } = world.plan.monday
  const within = users * 360
  return world.during(async (inner) => {
    const redis = await inner.startRedis()
    const real = connectTo(redis.url)
    inner.onStop(async () => real.close())
    const mornings = []
    for (const [way, mintLimit] of Object.entries(WAYS)) {
      mornings.push({ way, result: await runRush({ seed: 1, users, within, instances: INSTANCES, mintLimit, toolJet: TEN_A_MINUTE }, real) })
    }
    return { users, instances: INSTANCES, within, mornings }
  })
}
