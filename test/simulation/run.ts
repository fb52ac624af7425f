import { spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { provideRedis } from '../../example/redis.js'
import { copyWith, mutantOf } from './mutants.js'
import { runSeeds } from './pool.js'
import { explain } from './report.js'
import { connectTo } from './worker.js'

/*
 * `npm run simulate -- --from A --to B [--jobs N]`: runs the schedules of the seeds from A to B, B left out, and shows
 * for each kind of broken promise the shortest schedule that breaks it. `-- --only SEED [--promise TEXT]`: one seed.
 * `-- --mutant NAME`: with a fault of mutants.ts, in a copy of the repository.
 */

const { values } = parseArgs({ options: { from: { type: 'string', default: '0' }, to: { type: 'string', default: '2000' }, jobs: { type: 'string' }, only: { type: 'string' }, promise: { type: 'string' }, mutant: { type: 'string' } } })
if (values.mutant !== undefined) process.exit(runInCopy(values.mutant))
const redis = await provideRedis()
const real = connectTo(redis.url)
let code = 0
try {
  if (values.only !== undefined) {
    const lines = await explain(Number(values.only), real, values.promise)
    console.log(lines.length > 0 ? lines.join('\n') : `seed ${values.only} breaks nothing`)
    code = lines.length > 0 ? 1 : 0
  } else {
    const from = Number(values.from)
    const to = Number(values.to)
    const begunAt = performance.now()
    let toldAt = begunAt
    const broken = await runSeeds({ from, to }, {
      redisUrl: redis.url,
      jobs: Number(values.jobs ?? availableParallelism()),
      onProgress (done, broken) {
        for (const { seed, promises } of broken) console.log(`seed ${seed} breaks ${promises.join(', ')}`)
        if (performance.now() - toldAt < 10_000) return
        toldAt = performance.now()
        console.log(`${done} of ${to - from} schedules, ${((toldAt - begunAt) / done).toFixed(1)} ms each`)
      },
    })
    const firsts = new Map(broken.toReversed().flatMap(({ seed, promises }) => promises.map((promise) => [promise, seed] as const)))
    for (const [promise, seed] of firsts) console.log(['', ...await explain(seed, real, promise)].join('\n'))
    console.log(`\n${to - from} schedules, ${((performance.now() - begunAt) / 1000).toFixed(0)} s, ${broken.length} broken`)
    for (const promise of [...firsts.keys()].sort()) {
      const seeds = broken.filter(({ promises }) => promises.includes(promise)).map(({ seed }) => seed)
      console.log(`  promise ${promise}: ${seeds.length} (${seeds.slice(0, 10).join(' ')}${seeds.length > 10 ? ' …' : ''})`)
    }
    code = broken.length > 0 ? 1 : 0
  }
} finally {
  real.close()
  await redis.stop()
}
process.exit(code)

/** The same command without the mutant's name, where the mutant is. */
function runInCopy (name: string): number {
  const { folder, remove } = copyWith(mutantOf(name))
  try {
    const args = Object.entries(values).flatMap(([option, value]) => (option === 'mutant' ? [] : [`--${option}`, value]))
    return spawnSync(process.execPath, ['--import', 'tsx', 'test/simulation/run.ts', ...args], { cwd: folder, stdio: 'inherit' }).status ?? 1
  } finally {
    remove()
  }
}
