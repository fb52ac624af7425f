import { availableParallelism } from 'node:os'
import { test } from 'tap'
import { planFor } from './simulation/plan.js'
import { runSeeds } from './simulation/pool.js'
import { explain } from './simulation/report.js'
import { runSchedule } from './simulation/schedule.js'
import { connectTo } from './simulation/worker.js'
import { sharedRedisUrl, stopOwnRedis } from './support/redis.js'

/** A fixed set, from 0 on. */
const SEEDS = Number(process.env['SIMULATION_SEEDS'] ?? 2000)

test('a schedule follows from its seed alone, and from its choices', { timeout: 300_000 }, async (t) => {
  const real = connectTo(await sharedRedisUrl())
  t.teardown(() => real.close())
  for (let seed = 0; seed < 20; seed++) {
    const plan = planFor(seed)
    const once = await runSchedule(plan, real, { tells: true })
    const again = await runSchedule(planFor(seed), real, { tells: true })
    const replayed = await runSchedule(plan, real, { replay: once.taken, tells: true })
    // ids are random, and nothing depends on them
    t.same(withoutIds(again.lines), withoutIds(once.lines), `seed ${seed}`)
    t.same(withoutIds(replayed.lines), withoutIds(once.lines), `seed ${seed}, replayed`)
  }
})

function withoutIds (lines: string[]): string[] {
  return lines.map((line) => line.replaceAll(/(?<=")[\w-]{12}(?=")|[\w-]{16,}/g, '…'))
}

test(`${SEEDS} schedules keep the promises`, { timeout: 3_600_000 }, async (t) => {
  const url = await sharedRedisUrl()
  const real = connectTo(url)
  t.teardown(() => real.close())
  const broken = await runSeeds({ from: 0, to: SEEDS }, { redisUrl: url, jobs: availableParallelism() })
  for (const { seed, promises } of broken.slice(0, 3)) t.fail(`seed ${seed} breaks ${promises.join(', ')}`, { schedule: await explain(seed, real) })
  t.same(broken.map(({ seed }) => seed), [], 'npm run simulate -- --only SEED shows one')
})

test('end', stopOwnRedis)
