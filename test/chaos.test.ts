import { createServer, connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { test, type Test } from 'tap'
import { EventSigner } from '../plugin/audit/signer.js'
import { check } from './chaos/checker.js'
import { planFaults } from './chaos/plan.js'
import type { Answer, Disturbance, MintRecord, Records, StreamEntry } from './chaos/records.js'
import { report, type Told } from './chaos/report.js'
import { runChaos } from './chaos/run.js'
import { stopwatch } from './support/stopwatch.js'
import { TcpProxy } from './support/tcp-proxy.js'

const SHORT_MS = 20_000
/** Its short plan has eleven faults, of them both kinds that lose replies. */
const SEED = 129_331
/** One volley, with a share of 10 % and killed clients. */
const LOSING_SEED = 32
const LOSING_MS = 15_000

test('a short run with faults breaks no promise', { timeout: 210_000 }, async (t) => {
  let lacking: string[] | undefined
  // where the machine is busy little is answered, and hardly any second is calm: then another run, up to three
  for (let run = 0; run < 3 && lacking?.length !== 0; run++) {
    const told = await runChaos({ ms: SHORT_MS, seed: SEED, perSecond: 200 })
    t.same(told.judged.filter(({ violations }) => violations > 0), [], report(told))
    lacking = lacks(told)
  }
  t.same(lacking, [])
})

test('a short run that loses replies, and nothing else, breaks no promise', { timeout: 200_000 }, async (t) => {
  let lacking: string[] | undefined
  for (let run = 0; run < 3 && lacking?.length !== 0; run++) {
    const told = await runChaos({ ms: LOSING_MS, seed: LOSING_SEED, perSecond: 100, kinds: ['redis-lose-replies', 'redis-kill-clients'] })
    t.same(told.judged.filter(({ violations }) => violations > 0), [], report(told))
    const judged = (promise: RegExp): number => told.judged.find((row) => promise.test(row.promise))!.count
    const bounds: [n: number, least: number, of: string][] = [
      [told.lostReplies, 15, 'lost replies'],
      [judged(/one Redis timeout/), 100, 'answers meanwhile'],
      [judged(/before a forget/), 10, 'answers after a forget'],
      [judged(/one answer per mint/), 50, 'mints'],
    ]
    lacking = bounds.flatMap(([n, least, of]) => (n < least ? [`${n} ${of}`] : []))
  }
  t.same(lacking, [])
})

/** What a run is short of: without it, that nothing is wrong says little. */
function lacks ({ records, faults, judged }: Told): string[] {
  const answered = records.answers.filter(({ status }) => status !== undefined)
  const urls = answered.filter(({ status }) => status === 200)
  const unjudged = judged.filter(({ count }) => count === 0).map(({ promise }) => promise)
  const bounds: [holds: boolean, found: string][] = [
    [answered.length > SHORT_MS / 1000 * 100, `${answered.length} answers`],
    [urls.length > answered.length / 2, `${urls.length} of ${answered.length} answers are URLs`],
    [faults.length >= 10, `faults: ${faults.join()}`],
    [unjudged.length <= 6, `not judged: ${unjudged.join('; ')}`],
  ]
  return bounds.flatMap(([holds, found]) => (holds ? [] : [found]))
}

test('a plan follows from its seed', async (t) => {
  const plan = planFaults(SEED, 600_000, 3)
  t.same(planFaults(SEED, 600_000, 3), plan)
  t.notSame(planFaults(SEED + 1, 600_000, 3), plan)
  t.equal(new Set(plan.map(({ kind }) => kind)).size, 23, 'in ten minutes every kind comes')
  t.ok(plan.every(({ at, forMs }) => at + forMs < 600_000))
  t.notOk(plan.some(({ kind, slot }) => kind.startsWith('instance') && slot === 0))
})

// what a good run of one mint and three answers leaves behind

const ANA = 'ana@acme.test'
const APP = 'app-1'
const INSTANCE = 'host-1-aa'
const signer = new EventSigner([Buffer.from('a key')], 'audit')
const T0 = Date.parse('2026-01-01T00:00:00Z')
const LIMITS = { patExpiry: 6, minRemaining: 1, timeoutMs: 1500, redisTimeoutMs: 300, lockMs: 2700, promptMs: 880, clientTimeoutMs: 10_000, stopMs: 8000 }

function answer (n: number, at: number, more: Partial<Answer> = {}): Answer {
  return { requestId: `r${n}`, life: 0, via: 'route', email: ANA, appId: APP, expect: 'url', start: T0 + at, end: T0 + at + 10, sentAt: T0 + at + 9, status: 200, urlId: 'u1', source: 'reused', token: 'pat1', ...more }
}

function mint (at: number, token: string, more: Partial<MintRecord> = {}): MintRecord {
  return { email: ANA, appId: APP, at: T0 + at, endedAt: T0 + at + 50, token, ...more }
}

function entriesOf (events: Record<string, string>[]): StreamEntry[] {
  let prev = ''
  return events.map((event, i) => {
    const fields: Record<string, string> = { time: new Date(T0 + i).toISOString(), ...event, instance: INSTANCE, seq: String(i + 1), ...(prev !== '' && { prev }), schema: '2' }
    prev = signer.sign(fields, T0 + i).mac
    return { id: `${T0 + i}-0`, fields }
  })
}

const GOOD_EVENTS = [
  { event: 'audit.opened', outcome: 'success' },
  ...[1, 2, 3].map((n) => ({ event: n === 1 ? 'url.minted' : 'url.reused', outcome: 'success', email: ANA, url_id: 'u1', request_id: `r${n}` })),
  { event: 'audit.closed', outcome: 'success' },
]

function goodRun (): Records & { epochs: StreamEntry[][] } {
  return {
    limits: LIMITS,
    answers: [answer(1, 1000, { source: 'minted' }), answer(2, 2000), answer(3, 3000)],
    forgets: [],
    lives: [{ id: 0, slot: 0, instance: INSTANCE, startedAt: T0, ending: { at: T0 + 20_000, by: 'stop' }, exit: { at: T0 + 20_100, code: 0, signal: null }, crashes: [], redisDown: [] }],
    mints: [mint(1001, 'pat1')],
    tokens: new Map([['pat1', { email: ANA, appId: APP, mintedAt: T0 + 1040, expiresAt: T0 + 7040 }]]),
    epochs: [entriesOf(GOOD_EVENTS)],
    logged: [],
    pauses: [],
    disturbances: [],
    lags: [],
    leaks: [],
  }
}

/** @returns the promises broken by what was done to a good run */
async function broken (spoil: (run: ReturnType<typeof goodRun>) => void): Promise<string[]> {
  const run = goodRun()
  spoil(run)
  return (await check(run, signer)).filter(({ violations }) => violations > 0).map(({ promise }) => promise)
}

async function catches (t: Test, promise: RegExp, spoil: (run: ReturnType<typeof goodRun>) => void): Promise<void> {
  const found = await broken(spoil)
  t.ok(found.some((name) => promise.test(name)), `${String(promise)} in [${found.join('; ')}]`)
}

function secondToken (run: Records, at: number): void {
  run.mints.push(mint(at, 'pat2'))
  run.tokens.set('pat2', { email: ANA, appId: APP, mintedAt: T0 + at + 40, expiresAt: T0 + at + 6040 })
}

test('the checker finds nothing wrong with a good run', async (t) => {
  t.same(await broken(() => {}), [])
  t.same(await broken((run) => { // a kill -9 takes the last events
    run.lives[0]!.ending!.by = 'kill'
    run.lives[0]!.exit = { at: T0 + 20_001, code: null, signal: 'SIGKILL' }
    run.epochs[0]!.splice(3)
  }), [])
  t.same(await broken((run) => { // what was in doubt when Redis forgot everything is written again
    run.epochs.push(run.epochs[0]!.slice(2))
    run.epochs[0]!.splice(3)
  }), [])
  t.same(await broken((run) => { run.logged.push(...run.epochs[0]!.splice(3).map(({ fields }) => ({ life: 0, fields }))) }), [], 'left to the log')
})

test('the checker sees wrong answers', async (t) => {
  const own = /its user's own/
  await catches(t, own, (run) => { run.tokens.get('pat1')!.email = 'ben@acme.test' })
  await catches(t, own, (run) => { run.answers[1]!.appId = 'app-2' })
  await catches(t, own, (run) => { run.tokens.clear() })
  await catches(t, /after its end/, (run) => { run.answers[2]!.sentAt = T0 + 7100 })
  await catches(t, /minRemaining/, (run) => { run.answers[2]!.sentAt = T0 + 6500 })
  await catches(t, /gets another one/, (run) => { run.answers[1]!.replaces = 'u1' })
  await catches(t, /given to nobody/, (run) => {
    secondToken(run, 1500)
    Object.assign(run.answers[1]!, { replaces: 'u1', urlId: 'u2', token: 'pat2' })
  })
  await catches(t, /last one minted/, (run) => secondToken(run, 2200))
  await catches(t, /documented code/, (run) => { Object.assign(run.answers[1]!, { status: 500, code: 'ERR_X' }) })
  await catches(t, /documented code/, (run) => { Object.assign(run.answers[1]!, { status: 500, code: 'TOOLJET_EMBED_BUSY' }) })
  await catches(t, /Retry-After/, (run) => { Object.assign(run.answers[1]!, { status: 429, code: 'TOOLJET_EMBED_BUSY' }) })
  await catches(t, /right one/, (run) => { Object.assign(run.answers[1]!, { status: 404, code: 'TOOLJET_EMBED_USER_NOT_FOUND' }) })
  await catches(t, /right one/, (run) => { run.answers[1]!.expect = 'ACCESS_DENIED' })
  await catches(t, /calm times everyone/, (run) => { Object.assign(run.answers[1]!, { status: 504, code: 'TOOLJET_EMBED_TIMEOUT' }) })
})

test('the checker sees mints that are not one answer and one event', async (t) => {
  const once = /one answer per mint says minted/
  const event = /one event per mint/
  await catches(t, once, (run) => { run.answers[1]!.source = 'minted' })
  await catches(t, once, (run) => { run.answers[0]!.source = 'reused' })
  await catches(t, once, (run) => secondToken(run, 2200)) // given to nobody
  await catches(t, once, (run) => {
    run.answers[0]!.source = 'reused'
    run.disturbances.push({ of: 'redis', from: T0, to: T0 + 9000 })
  })
  await catches(t, event, (run) => { run.epochs[0] = entriesOf(GOOD_EVENTS.map((event) => (event.event === 'url.minted' ? { ...event, event: 'url.reused' } : event))) })
  await catches(t, event, (run) => { run.epochs[0] = entriesOf(GOOD_EVENTS.map((event) => (event.event === 'url.reused' ? { ...event, event: 'url.minted' } : event))) })

  const isNot = async (promise: RegExp, spoil: Parameters<typeof broken>[0], why: string): Promise<void> => {
    const found = await broken(spoil)
    t.notOk(found.some((name) => promise.test(name)), why)
  }
  const withoutAnswer = (more: Partial<Answer>) => (run: ReturnType<typeof goodRun>) => {
    const { status, urlId, token, source, ...rest } = run.answers[0]!
    run.answers[0] = { ...rest, ...more }
    run.epochs[0] = entriesOf(GOOD_EVENTS.filter((event) => event.event !== 'url.minted'))
  }
  for (const promise of [once, event]) {
    await isNot(promise, withoutAnswer({ failure: 'ECONNRESET' }), 'its requester is gone')
    await isNot(promise, withoutAnswer({ status: 503, code: 'TOOLJET_EMBED_REDIS_DOWN', retryAfter: '1' }), 'its requester was told that Redis is away')
    await catches(t, promise, withoutAnswer({ status: 504, code: 'TOOLJET_EMBED_TIMEOUT' }))
    await catches(t, promise, (run) => {
      withoutAnswer({ failure: 'ECONNRESET' })(run)
      run.mints[0]!.at -= 500 // of another's mint
    })
  }
  for (const of of ['redis', 'tooljet-link', 'instance'] as const) {
    await isNot(once, (run) => {
      secondToken(run, 2200)
      run.disturbances.push({ of, from: T0 + 2000, to: T0 + 2100 })
    }, `given to nobody, but: ${of}`)
  }
  await catches(t, once, (run) => {
    secondToken(run, 2200)
    run.disturbances.push({ of: 'redis-replies', from: T0 + 2000, to: T0 + 3000 })
  })
})

test('the checker sees URLs that come back after a forget', async (t) => {
  const promise = /before a forget/
  type Run = ReturnType<typeof goodRun>
  const forgetAt = (run: Run, start: number, status = 200): void => { run.forgets.push({ life: 0, email: ANA, appId: APP, start: T0 + start, end: T0 + start + 100, status }) }
  const isFine = async (why: string, spoil: (run: Run) => void): Promise<void> => {
    t.notOk((await broken(spoil)).some((name) => promise.test(name)), why)
  }
  await catches(t, promise, (run) => forgetAt(run, 1500))
  await isFine('it failed', (run) => forgetAt(run, 1500, 503))
  await isFine('nobody asks later', (run) => forgetAt(run, 2950))
  // the mint was under way
  await catches(t, promise, (run) => forgetAt(run, 1010))
  await isFine('its mint began later', (run) => forgetAt(run, 900))
  await catches(t, promise, (run) => { // a denial is a forget
    run.answers.push(answer(4, 1500, { status: 403, code: 'TOOLJET_EMBED_ACCESS_DENIED', expect: 'ACCESS_DENIED' }))
  })
  const secondInstance = (run: Run): void => {
    run.lives.push({ ...run.lives[0]!, id: 1, slot: 1, instance: 'host-2-bb', redisDown: [] })
    for (const later of run.answers.slice(1)) later.life = 1
    forgetAt(run, 1500)
  }
  await catches(t, promise, secondInstance)
  await isFine('it was cut off', (run) => {
    secondInstance(run)
    run.disturbances.push({ of: 'redis', slot: 1, from: T0 + 1400, to: T0 + 4000 })
  })
  await isFine('it had taken Redis for away', (run) => {
    secondInstance(run)
    run.lives[1]!.redisDown.push({ from: T0 + 1400, to: T0 + 4000 })
  })
  // another one was cut off
  await catches(t, promise, (run) => {
    secondInstance(run)
    run.disturbances.push({ of: 'redis', slot: 2, from: T0 + 1400, to: T0 + 4000 })
    run.lives[0]!.redisDown.push({ from: T0 + 1400, to: T0 + 4000 })
  })
  // replies are lost, and no more
  await catches(t, promise, (run) => {
    secondInstance(run)
    run.disturbances.push({ of: 'redis-replies', from: T0 + 1400, to: T0 + 4000 })
  })
  const longAfter = (run: Run, from: number): void => {
    run.limits = { ...LIMITS, patExpiry: 60 }
    secondInstance(run)
    run.answers.push(answer(4, 15_000, { life: 1 }))
    run.answers.splice(1, 2)
    run.disturbances.push({ of: 'redis', slot: 1, from: T0 + 1400, to: T0 + 2000 }, { of: 'redis', slot: 1, from: T0 + from, to: T0 + 16_000 })
  }
  // it had 5 s and an answer of Redis between two outages
  await catches(t, promise, (run) => longAfter(run, 14_000))
  await isFine('it could not know', (run) => longAfter(run, 2100))
})

test('the checker sees answers that a lost reply holds up', async (t) => {
  const promise = /one Redis timeout/
  const slow = (run: ReturnType<typeof goodRun>, of: Disturbance['of'] = 'redis-replies'): void => {
    run.answers[1]!.end = run.answers[1]!.start + 1500
    run.disturbances.push({ of, from: T0 + 1500, to: T0 + 2500 })
  }
  await catches(t, promise, (run) => slow(run))
  await catches(t, promise, (run) => { // an outage by its own log is no excuse
    slow(run)
    run.lives[0]!.redisDown.push({ from: T0 + 2100, to: T0 + 2900 })
  })
  for (const of of ['redis', 'tooljet', 'tooljet-link', 'instance'] as const) {
    const found = await broken((run) => {
      slow(run)
      slow(run, of)
    })
    t.notOk(found.some((name) => promise.test(name)), `besides: ${of}`)
  }
  const found = await broken((run) => {
    slow(run)
    run.lags.push({ from: T0 + 2200, to: T0 + 2900 })
  })
  await catches(t, promise, (run) => {
    slow(run)
    run.lags.push({ from: T0 + 2200, to: T0 + 2300 })
  })
  t.notOk(found.some((name) => promise.test(name)), 'it was the machine')
})

test('the checker sees unanswered asks, crashes and secrets', async (t) => {
  const unanswered = (failure: string, start = 1000) => (run: Records) => {
    const { status, ...rest } = answer(1, start)
    run.answers[0] = { ...rest, failure }
  }
  await catches(t, /answered in time/, unanswered('timeout'))
  await catches(t, /answered in time/, unanswered('ECONNRESET'))
  t.notOk((await broken(unanswered('ECONNRESET', 20_050))).some((promise) => /in time/.test(promise)), 'while it ends a connection may go')
  const closing = (start: number) => (run: Records) => {
    const { sentAt, ...rest } = answer(1, start, { status: 503, code: '' })
    run.answers[0] = rest
  }
  await catches(t, /documented code/, closing(1000))
  t.notOk((await broken(closing(20_050))).some((promise) => /documented|Retry-After|right one/.test(promise)), 'while it closes Fastify answers in its own words')
  await catches(t, /answered in time/, (run) => { run.answers[0]!.end = T0 + 12_000 })
  await catches(t, /crashes/, (run) => { run.lives[0]!.crashes.push('unhandledRejection: x') })
  await catches(t, /crashes/, (run) => { delete run.lives[0]!.ending })
  await catches(t, /told to stop/, (run) => { run.lives[0]!.exit!.at += 9000 })
  await catches(t, /told to stop/, (run) => { run.lives[0]!.exit!.code = 1 })
  await catches(t, /log line/, (run) => { run.leaks.push('pat_0123') })
  await catches(t, /JWT in an event/, (run) => { run.epochs[0] = entriesOf(GOOD_EVENTS.map((event) => ({ ...event, app: 'pat_0123456789' }))) })
})

test('the checker sees mints that overlap, and calls in a pause', async (t) => {
  const single = /one mint at a time/
  await catches(t, single, (run) => { run.mints.push(mint(1020, 'pat2')) })
  t.notOk((await broken((run) => {
    run.mints.push(mint(1020, 'pat2'))
    run.disturbances.push({ of: 'redis', from: T0, to: T0 + 500 })
  })).some((promise) => single.test(promise)), 'not judged with Redis disturbed')
  t.notOk((await broken((run) => { run.mints.push(mint(1020, 'pat2', { appId: 'app-2' })) })).some((promise) => single.test(promise)), 'another app')
  await catches(t, /pause/, (run) => {
    run.pauses.push({ at: T0 + 5000, seconds: 2 })
    run.mints.push(mint(6000, 'pat2'))
  })
})

test('the checker sees events that are lost, doubled, forged or wrong', async (t) => {
  const lost = /ended well is lost/
  await catches(t, lost, (run) => { run.epochs[0]!.splice(2, 1) })
  await catches(t, /verify/, (run) => { run.epochs[0]!.splice(2, 1) })
  await catches(t, /has one event/, (run) => { run.epochs[0]!.splice(2, 1) })
  await catches(t, /closed its chain/, (run) => { run.epochs[0]!.pop() })
  await catches(t, /last events only/, (run) => {
    run.lives[0]!.ending!.by = 'kill'
    run.epochs[0]!.splice(2, 1)
  })
  await catches(t, /twice/, (run) => { run.epochs[0]!.push(run.epochs[0]![3]!) })
  await catches(t, /verify/, (run) => { run.epochs[0]![2]!.fields['email'] = 'ben@acme.test' })
  await catches(t, /has one event/, (run) => { run.epochs[0] = entriesOf(GOOD_EVENTS.map((event, i) => (i === 3 ? { ...event, request_id: 'r1' } : event))) })
  await catches(t, /tells what was answered/, (run) => { run.answers[1]!.urlId = 'u2' })
  await catches(t, /tells what was answered/, (run) => { run.answers[1]!.source = 'minted' })
})

async function echoBehindProxy (t: Test): Promise<{ proxy: TcpProxy, open: () => Socket }> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {}).pipe(socket)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const proxy = await TcpProxy.to((server.address() as { port: number }).port)
  t.teardown(async () => {
    await proxy.close()
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return {
    proxy,
    open: () => connect(proxy.port, '127.0.0.1').on('error', () => {}),
  }
}

test('the TCP proxy delays, narrows, black-holes, cuts and refuses', async (t) => {
  const { proxy, open } = await echoBehindProxy(t)
  const socket = open()
  const echo = async (text: string): Promise<number> => {
    const began = performance.now()
    let got = ''
    socket.write(text)
    while (got.length < text.length) got += String((await once(socket, 'data'))[0])
    t.equal(got, text)
    return performance.now() - began
  }
  const waited = stopwatch()
  await echo('plain')
  t.ok(waited() < 2000, 'no delay that nobody asked for')
  proxy.set({ delayMs: 60 })
  t.ok(await echo('late') >= 115)
  proxy.set({ bytesPerSecond: 10_000 })
  t.ok(await echo('x'.repeat(1000)) >= 190)
  proxy.set({ blackHole: true })
  const held = echo('held')
  t.equal(await Promise.race([held, sleep(150)]), undefined)
  proxy.set({})
  t.ok(await held >= 145)
  const isGone = (which: Socket): Promise<void> => new Promise((resolve) => { which.once('close', () => resolve()) })
  const gone = isGone(socket)
  proxy.cut()
  await gone
  proxy.set({ refuse: true })
  await isGone(open())
})
