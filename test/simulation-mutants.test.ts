import { availableParallelism } from 'node:os'
import { test, type Test } from 'tap'
import { copyWith, SIMULATION_MUTANTS, type SimulationMutant } from './simulation/mutants.js'
import { runSeeds } from './simulation/pool.js'
import { sharedRedisUrl, stopOwnRedis } from './support/redis.js'

/** From its own seed on; a fault that is rarer than that is not found by 20,000 schedules for sure. */
const MAX_SEEDS = 2000

test('a mutant whose text is no longer there is told', async (t) => {
  const [mutant] = SIMULATION_MUTANTS
  t.throws(() => copyWith({ ...mutant!, changes: [{ file: 'cache/scripts/claim.lua', from: 'nobody wrote this', to: '' }] }), { message: /stale mutant/ })
  t.throws(() => copyWith({ ...mutant!, changes: [{ file: 'cache/scripts/claim.lua', from: 'local', to: '' }] }), { message: /stale mutant/ })
})

test('the checker finds each fault that was restored', { timeout: 230_000 }, async (t) => {
  const redisUrl = await sharedRedisUrl()
  const left = [...SIMULATION_MUTANTS]
  await Promise.all(Array.from({ length: availableParallelism() }, async () => {
    for (let mutant = left.shift(); mutant !== undefined; mutant = left.shift()) await mustBeFound(t, mutant, redisUrl)
  }))
})

async function mustBeFound (t: Test, mutant: SimulationMutant, redisUrl: string): Promise<void> {
  const { name, breaks, from, why } = mutant
  const { folder, remove } = copyWith(mutant)
  const isFound = (broken: { promises: string[] }[]): boolean => broken.some(({ promises }) => promises.some((promise) => promise.startsWith(breaks)))
  try {
    const broken = await runSeeds({ from, to: from + MAX_SEEDS }, { redisUrl, jobs: 1, chunk: 25, folder, isEnough: isFound })
    const by = [...new Set(broken.flatMap(({ promises }) => promises))].join(', ')
    t.ok(isFound(broken), `${name}: ${why}`, { broken: by })
    t.comment(`${name}: by seed ${broken[0]?.seed}, which breaks ${by}`)
  } finally {
    remove()
  }
}

test('end', stopOwnRedis)
