import { Redis } from 'ioredis'
import { startServer } from '../../example/redis.js'
import { planFor } from './plan.js'
import { judge, shrink } from './shrink.js'
import { RealRedis } from './server.js'
const s = await startServer()
const c = new Redis(s.url, { enableAutoPipelining: true })
const real = new RealRedis(c)
const [from, to, only] = process.argv.slice(2)
const seen: Record<string, number[]> = {}
const t = performance.now()
if (only === undefined) {
  let next = Number(from)
  await Promise.all(Array.from({ length: 16 }, async () => {
    while (next < Number(to)) {
      const seed = next++
      const { violations } = await judge(planFor(seed), real)
      for (const promise of new Set(violations.map(({ promise }) => promise))) (seen[promise] ??= []).push(seed)
    }
  }))
  console.log((performance.now() - t) / (Number(to) - Number(from)), 'ms each')
  for (const [promise, seeds] of Object.entries(seen).sort()) console.log(promise, seeds.length, seeds.slice(0, 12).join(' '))
} else {
  const plan = planFor(Number(from))
  let o = await judge(plan, real, { tells: true })
  const failure = { plan, taken: o.taken, violations: o.violations.filter(({ promise }) => promise === only) }
  const short = await shrink(failure, real)
  o = await judge(short.plan, real, { replay: short.taken, tells: true })
  console.log(o.lines.join('\n')); console.log(short.plan.settings, short.plan.clients, short.plan.dates, short.taken); console.log(o.violations)
}
c.disconnect(); await s.stop()
