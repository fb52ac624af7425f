import { t as tap, test } from 'tap'
import { startServer } from '../example/redis.js'
import { APPS, runRush, type Guest, type RushPlan, type RushResult } from './simulation/rush.js'
import { connectTo } from './simulation/worker.js'

/*
 * Promise 6 in virtual time: real instances and real scripts, while ToolJet allows ten mints a minute.
 */

const TEN_A_MINUTE = { max: 10, timeWindow: 60_000 }
const USERS = 150

const server = await startServer()
const real = connectTo(server.url)
tap.teardown(async () => {
  real.close()
  await server.stop()
})

function rush (plan: Partial<RushPlan> = {}): Promise<RushResult> {
  return runRush({ seed: 1, users: USERS, within: 120_000, instances: 4, mintLimit: TEN_A_MINUTE, toolJet: TEN_A_MINUTE, ...plan }, real)
}

const minutes = (count: number): number => count * 60_000

test('a given limit: nobody is refused, first come, first served, slots do not stay empty, promises are kept', { timeout: 120_000 }, async (t) => {
  const result = await rush()
  t.match(result, { served: USERS, calls: USERS, refused: 0, busiestWindow: 10 })
  t.ok(result.inversions < 0.01, `${result.inversions} of the pairs in the wrong order`)
  t.ok(result.slotsUsed >= 0.97, `${result.slotsUsed} of the slots used`)
  t.ok(result.promise.p90 <= 12_000 && result.promise.wrong < 0.1, JSON.stringify(result.promise))
  t.ok(result.requests.most <= 12, `${result.requests.most} requests`)
})

test("'auto': three refusals when the limit is learnt, one for each later try", { timeout: 120_000 }, async (t) => {
  for (const retryAfter of [true, false]) {
    const result = await rush({ mintLimit: 'auto', retryAfter })
    const windows = result.wait.last / 60_000
    t.equal(result.served, USERS)
    t.ok(result.refused <= 3 + Math.ceil(Math.log2(windows)), `${result.refused} refused in ${windows} minutes`)
    t.ok(result.inversions < (retryAfter ? 0.01 : 0.03), `${result.inversions} of the pairs in the wrong order`)
    t.ok(result.slotsUsed >= (retryAfter ? 0.95 : 0.85), `${result.slotsUsed} of the slots used`)
    t.ok(result.requests.most <= 12, `${result.requests.most} requests`)
  }
})

test("'auto' finds out that ToolJet allows more than at first", { timeout: 120_000 }, async (t) => {
  const result = await rush({ users: 250, mintLimit: 'auto', faults: [{ at: minutes(3), what: 'tooljet allows more', max: 30 }] })
  t.equal(result.served, 250)
  t.ok(result.wait.last < minutes(19), `the last one after ${result.wait.last / 60_000} minutes`)
})

const inTheLastMinute = (granted: number[], now: number): number => granted.filter((at) => at > now - 60_000).length
/** ToolJets whose 429 does not say when the window ends: for how long the others wait at most, in minutes, and how many calls they refuse. */
const ODD: Record<string, { plan: Partial<RushPlan>, last: number, refused: number }> = {
  'always says 60': { plan: { refuses: (_email, now, granted) => (inTheLastMinute(granted, now) >= 10 ? { retryAfter: 60 } : undefined) }, last: 12, refused: 8 },
  'says 61': { plan: { refuses: (_email, now, granted) => (inTheLastMinute(granted, now) >= 10 ? { retryAfter: 61 } : undefined) }, last: 12, refused: 8 },
  'says 0': { plan: { refuses: (_email, now, granted) => (inTheLastMinute(granted, now) >= 10 ? { retryAfter: 0 } : undefined) }, last: 9, refused: 8 },
  'counts fixed minutes': { plan: { refuses: (_email, now, granted) => (granted.filter((at) => Math.floor(at / 60_000) === Math.floor(now / 60_000)).length >= 10 ? { retryAfter: Math.ceil(60 - now / 1000 % 60) } : undefined) }, last: 10, refused: 8 },
  'refuses once, and has no limit': { plan: { refuses: (_email, _now, granted) => (granted.length === 0 && !refusedOnce.has('now') && refusedOnce.add('now') ? {} : undefined) }, last: 8, refused: 1 },
  'never lets one user in': { plan: { refuses: (email) => (email === 'user0@test' ? { retryAfter: 60 } : undefined), atMost: minutes(15) }, last: 10, refused: 15 },
}
const refusedOnce = new Set<string>()

for (const [name, { plan, last, refused }] of Object.entries(ODD)) {
  test(`'auto': a ToolJet that ${name}`, { timeout: 120_000 }, async (t) => {
    const result = await rush({ users: 70, mintLimit: 'auto', toolJet: undefined, ...plan })
    t.ok(result.served >= (name.includes('one user') ? 69 : 70), `${result.served} are served`)
    t.ok(result.wait.last < minutes(last), `the last one after ${result.wait.last / 60_000} minutes`)
    t.ok(result.refused <= refused, `${result.refused} refused`)
  })
}

test("'auto': a window of seconds stays one when somebody else has used a slot", { timeout: 120_000 }, async (t) => {
  const [max, timeWindow] = [10, 8000]
  const others = [25_500] // between two tries for one more
  const refuses: RushPlan['refuses'] = (_email, now, granted) => {
    const counted = [...granted, ...others.filter((at) => at <= now)].filter((at) => at > now - timeWindow).sort((one, other) => one - other)
    return counted.length < max ? undefined : { retryAfter: Math.ceil((counted[0]! + timeWindow - now) / 1000) }
  }
  const result = await rush({ users: 60, within: 10_000, mintLimit: 'auto', toolJet: undefined, refuses })
  t.equal(result.served, 60)
  t.ok(result.refused <= 5, `${result.refused} refused`)
  t.ok(result.wait.last < 55_000, `the last one after ${result.wait.last} ms`)
})

const reloads: Guest = () => ({ afterMs: 900 })
const wantsMany: Guest = (_last, times) => (times < 60 ? { afterMs: 1100, app: times % 15 } : undefined)
const replaces: Guest = (last, times) => (times < 40 ? { afterMs: 3000, replaces: last?.answer?.urlId ?? 'made-up' } : undefined)

test('others wait no longer for one who reloads without pause, wants fifteen apps, or replaces again and again', { timeout: 240_000 }, async (t) => {
  const alone = await rush()
  for (const [name, guest] of Object.entries({ reloads, wantsMany, replaces })) {
    const result = await rush({ guests: [guest] })
    t.equal(result.served, USERS, name)
    t.ok(result.guestCalls <= 6, `${name}: ${result.guestCalls} mints`)
    const more = result.wait.last - alone.wait.last
    t.ok(more <= result.guestCalls * 6000 + 60_000, `${name}: ${more} ms more for ${result.guestCalls} turns`)
    t.ok(result.inversions < 0.01, name)
  }
})

for (const countsDenied of [false, true]) {
  test(`'auto': others wait no longer for those who ask for made-up apps, where ToolJet ${countsDenied ? 'counts' : 'does not count'} them`, { timeout: 240_000 }, async (t) => {
    let madeUp = APPS
    const asksInVain: Guest = () => ({ afterMs: 5000, app: ++madeUp })
    for (const [toolJet, users] of [[{ max: 5, timeWindow: 5000 }, 25], [TEN_A_MINUTE, 70]] as const) {
      const plan: Partial<RushPlan> = { users, instances: 2, mintLimit: 'auto', toolJet, countsDenied, quiet: 45_000, within: toolJet.timeWindow / 2 }
      const alone = await rush(plan)
      for (const guests of [1, 3]) {
        const result = await rush({ ...plan, guests: Array.from({ length: guests }, () => asksInVain) })
        t.equal(result.served, users)
        t.ok(result.refused <= alone.refused + 2, `${result.refused} refused, ${alone.refused} without them`)
        const [more, turn] = [result.wait.last - alone.wait.last, toolJet.timeWindow / toolJet.max]
        t.ok(more <= result.guestCalls * turn + toolJet.timeWindow, `${more} ms more for ${result.guestCalls} turns`)
      }
    }
  })
}

test('those who leave are in nobody\'s way', { timeout: 120_000 }, async (t) => {
  const result = await rush({ leave: 0.05 })
  t.ok(result.served > 100)
  t.equal(result.refused, 0)
  t.ok(result.slotsUsed >= 0.9, `${result.slotsUsed} of the slots used`)
})

const FAULTS: Record<string, RushPlan['faults']> = {
  'kill -9 of an instance': [{ at: minutes(4), what: 'kill' }],
  'Redis comes back empty': [{ at: minutes(4), what: 'wipe' }],
  'Redis is unavailable for 30 s': [{ at: minutes(4), what: 'redis away', ms: 30_000 }],
  'ToolJet is down for a minute': [{ at: minutes(4), what: 'tooljet down', ms: 60_000 }],
}
for (const [name, faults] of Object.entries(FAULTS)) {
  test(`${name} in the middle of it: the order is kept, everybody is served`, { timeout: 120_000 }, async (t) => {
    const result = await rush({ faults: faults! })
    t.equal(result.served, USERS)
    t.ok(result.inversions < (name.includes('unavailable') ? 0.06 : name.includes('down') ? 0.01 : 0.03), `${result.inversions} of the pairs in the wrong order`)
    if (!name.includes('unavailable')) {
      t.equal(result.busiestWindow, 10)
      t.equal(result.refused, 0)
    }
    t.ok(result.wait.last < minutes(20), `the last one after ${result.wait.last / 60_000} minutes`)
  })
}

test('after ToolJet was down for some seconds the order is kept, and nobody has asked often', { timeout: 120_000 }, async (t) => {
  const limit = { max: 10, timeWindow: 8000 }
  const results = []
  for (const seed of [1, 2, 3]) results.push(await rush({ seed, users: 40, within: 10_000, mintLimit: limit, toolJet: limit, faults: [{ at: 11_000, what: 'tooljet down', ms: 15_000 }] }))
  t.same(results.map(({ served, refused }) => [served, refused]), Array(3).fill([40, 0]))
  const inversions = results.map((result) => result.inversions)
  t.ok(inversions.reduce((one, other) => one + other) / 3 < 0.02, `${inversions.join(', ')} of the pairs in the wrong order`)
  t.ok(Math.max(...results.map(({ requests }) => requests.most)) <= 12)
  for (const [ms, most] of [[15_000, 10], [60_000, 12], [600_000, 20]] as const) {
    for (const mintLimit of [limit, 'auto'] as const) {
      const result = await rush({ within: 30_000, mintLimit, toolJet: limit, faults: [{ at: 40_000, what: 'tooljet down', ms }] })
      t.equal(result.served, USERS)
      t.ok(result.inversions < 0.005, `${ms} ms: ${result.inversions} of the pairs in the wrong order`)
      t.ok(result.requests.p50 <= 12 && result.requests.most <= most, `${ms} ms: ${result.requests.most} requests`)
      t.ok(result.wait.last < 140_000 + 1.2 * ms, `${ms} ms: the last one after ${result.wait.last} ms`)
    }
  }
})

test("'auto': one whom ToolJet always refuses costs others some pauses, and no more by reloading", { timeout: 120_000 }, async (t) => {
  const alone = await rush({ mintLimit: 'auto' })
  for (const afterMs of [900, 20_000]) {
    const refuses: RushPlan['refuses'] = (email) => (email === 'guest0@test' ? { retryAfter: 60 } : undefined)
    const result = await rush({ mintLimit: 'auto', refuses, guests: [() => ({ afterMs })], atMost: minutes(60) })
    t.equal(result.served, USERS)
    t.ok(result.wait.last < alone.wait.last + minutes(15), `the last one after ${result.wait.last} ms, ${alone.wait.last} without`)
  }
})

test("'auto': whom ToolJet refuses twice in a row keeps the place", { timeout: 120_000 }, async (t) => {
  const tries: { email: string, others: number }[] = []
  const refuses: RushPlan['refuses'] = (email, now, granted) => {
    if (now < 150_000 || email !== (tries[0]?.email ?? email)) return undefined
    tries.push({ email, others: granted.length })
    return tries.length < 3 ? { retryAfter: 20 } : undefined
  }
  const result = await rush({ mintLimit: 'auto', refuses })
  t.equal(result.served, USERS)
  t.equal(tries.length, 3)
  const overtaken = tries[2]!.others - tries[0]!.others
  t.ok(overtaken <= 10, `${overtaken} others came first`)
})

test('a night is enough to fill the cache, and the morning is all hits', { timeout: 120_000 }, async (t) => {
  const users = 200
  const hours = users / 8 / 60 // four fifths of ten a minute
  const result = await rush({ users, patExpiry: Math.ceil(hours * 3600) + 1800, night: 1.05 * hours * 3_600_000 + 60_000 })
  t.match(result, { served: users, calls: 0, codes: {}, warmed: { minted: users, alreadyCached: 0, failed: [] } })
  t.ok(result.warmed!.took > 0.9 * hours * 3_600_000, 'a fifth of the limit is left free')
})

test('two hundred who leave after their first answer hold up those who stay for no more than some minutes', { timeout: 120_000 }, async (t) => {
  const result = await rush({ users: 230, within: 60_000, leaves: (user) => user < 200 })
  t.ok(result.served >= 30)
  t.ok(result.wait.last < minutes(9), `the last one after ${result.wait.last / 60_000} minutes`)
})
