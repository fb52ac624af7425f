import { t as tap, type Test } from 'tap'
import { startServer } from '../example/redis.js'
import type { Fault } from '../example/tooljet/server.js'
import type { TooljetEmbedForget } from '../plugin/index.js'
import { ANA, API_TOKEN, BEN, CLEO, INVENTORY, Portal, readStream, SALES, type Reply, redisIsBack } from './support/portal.js'
import { digestOf } from './support/redis.js'
import { ReplyProxy, type Command } from './support/reply-proxy.js'
import { stopwatch } from './support/stopwatch.js'
import { until } from './support/until.js'

/*
 * Redis carries out a command, its reply is lost with the connection, and the client sends it again: for each command of
 * each flow. Nobody may be able to tell from outside, but for one reconnect.
 */

const REDIS_TIMEOUT_MS = 1000
/** CONTRACT.md: within one Redis timeout and that. */
const SLACK_MS = 500
/** For who comes next, on a busy machine: what is left behind is waited for by the second. */
const NEXT_MS = 1000
const COUNT = digestOf('redis/scripts/count-and-look-up.lua')
/** Cases under way at the same time. */
const JOBS = 3

tap.jobs = JOBS
tap.setTimeout(240_000)
const server = await startServer()
const looking = await ReplyProxy.to(server.port)
looking.fate = learn
tap.teardown(async () => {
  await looking.close()
  await server.stop()
})

/** One fleet: `a` reaches Redis through a proxy, `b` does not. */
interface Stage {
  a: Portal
  b: Portal
  proxy: ReplyProxy
}

/** What was seen from outside: to be the same with every reply and without one. */
type Outcome = Record<string, unknown>

interface Flow {
  name: string
  options?: object
  /** Redis is away when it is prepared. */
  isOutage?: boolean
  /** Before anything is lost. */
  prepare?: (stage: Stage) => Promise<void>
  /** What loses a reply. @returns what its caller sees */
  act: (stage: Stage) => Promise<Outcome>
  /** Audit events by then. */
  written: number
  /** What others see afterwards. */
  after: (stage: Stage, acted: Outcome) => Promise<Outcome>
  /** With all replies. `calls`: of ToolJet; `events`: of both instances, sorted. */
  expected: { act: Outcome, after: Outcome, calls: number, mints: number, events: string[] }
}

const REPLACING = Symbol('the urlId before')
const state = new WeakMap<Stage, { [REPLACING]?: string }>()

function seen ({ status, body, headers }: Reply, { remaining = true } = {}): Outcome {
  return { status, ...(status === 200 ? { source: body.source } : { code: body.code.replace('TOOLJET_EMBED_', '') }), ...(remaining && { remaining: Number(headers['x-ratelimit-remaining']) }) }
}

/** An answer that has to come at once. */
async function atOnce (what: string, reply: Promise<Reply>): Promise<{ reply: Reply, took: string }> {
  const waited = stopwatch()
  const came = await reply
  const tookMs = waited()
  return { reply: came, took: tookMs < NEXT_MS ? 'at once' : `${what} took ${Math.round(tookMs)} ms` }
}

/** The one URL is what all are given from now on, and both limits have counted each request once. */
async function reusedByAll ({ a, b }: Stage, { urlId }: Outcome, { mintsLeft = 0 } = {}): Promise<Outcome> {
  const next = await atOnce('the next request of another instance', b.ask(ANA))
  const own = await atOnce('the next request of the same instance', a.ask(ANA))
  const same = [next, own].map(({ reply }) => reply.body.urlId === urlId)
  const more: Reply[] = []
  for (let i = 0; i <= mintsLeft; i++) more.push(await b.ask(ANA, { appId: SALES.id, replaces: more.at(-1)?.body.urlId ?? String(urlId) }))
  return { next: seen(next.reply), own: seen(own.reply), same, took: [next.took, own.took], more: more.map((reply) => seen(reply, { remaining: false })) }
}

const HITS = (remaining: number): Outcome => ({
  next: { status: 200, source: 'reused', remaining },
  own: { status: 200, source: 'reused', remaining: remaining - 1 },
  same: [true, true],
  took: ['at once', 'at once'],
})
const REFUSED = { status: 429, code: 'RATE_LIMITED' }
const MINTED = { status: 200, source: 'minted' }

async function ask (portal: Portal, body: object = { appId: SALES.id }): Promise<Outcome> {
  const reply = await portal.ask(ANA, body)
  return { ...seen(reply), urlId: reply.body.urlId }
}

const FLOWS: Flow[] = [
  {
    name: 'a first request',
    written: 1,
    act: ({ a }) => ask(a),
    after: (stage, acted) => reusedByAll(stage, acted, { mintsLeft: 1 }),
    expected: { act: { ...MINTED, remaining: 9 }, after: { ...HITS(8), more: [MINTED, REFUSED] }, calls: 2, mints: 2, events: ['minted', 'reused', 'reused', 'minted', 'limited'] },
  },
  {
    name: 'a hit',
    written: 2,
    prepare: async ({ a }) => { await a.ask(ANA) },
    act: ({ a }) => ask(a),
    after: (stage, acted) => reusedByAll(stage, acted, { mintsLeft: 1 }),
    expected: { act: { status: 200, source: 'reused', remaining: 8 }, after: { ...HITS(7), more: [MINTED, REFUSED] }, calls: 2, mints: 2, events: ['minted', 'reused', 'reused', 'reused', 'minted', 'limited'] },
  },
  {
    name: 'a hit on the URL of another instance',
    written: 2,
    prepare: async ({ b }) => { await b.ask(ANA) },
    act: ({ a }) => ask(a),
    after: (stage, acted) => reusedByAll(stage, acted, { mintsLeft: 1 }),
    expected: { act: { status: 200, source: 'reused', remaining: 8 }, after: { ...HITS(7), more: [MINTED, REFUSED] }, calls: 2, mints: 2, events: ['minted', 'reused', 'reused', 'reused', 'minted', 'limited'] },
  },
  {
    name: 'a replaces',
    written: 2,
    prepare: async (stage) => { state.set(stage, { [REPLACING]: (await stage.a.ask(ANA)).body.urlId }) },
    act: async (stage) => {
      const replaces = state.get(stage)![REPLACING]!
      const acted = await ask(stage.a, { appId: SALES.id, replaces })
      return { ...acted, another: acted['urlId'] !== replaces }
    },
    after: (stage, acted) => reusedByAll(stage, acted),
    expected: { act: { ...MINTED, remaining: 8, another: true }, after: { ...HITS(7), more: [REFUSED] }, calls: 2, mints: 2, events: ['minted', 'minted', 'reused', 'reused', 'limited'] },
  },
  ...['one app', 'all apps'].map((which): Flow => ({
    name: `a forget of ${which}`,
    written: 3,
    prepare: async ({ a }) => {
      await a.ask(ANA)
      await a.ask(ANA, { appId: INVENTORY.id })
    },
    options: { rateLimit: { max: 10, mints: 5, timeWindow: '1 minute' } },
    act: async ({ a }) => ({ dropped: await a.app.tooljetEmbed.forget({ email: ANA, ...(which === 'one app' && { appId: SALES.id }) } as TooljetEmbedForget) }),
    after: async ({ a, b }) => {
      const next = await atOnce('the next request of another instance', b.ask(ANA))
      const own = await a.ask(ANA)
      return { next: seen(next.reply), own: seen(own), same: own.body.urlId === next.reply.body.urlId, took: next.took, other: seen(await b.ask(ANA, { appId: INVENTORY.id })) }
    },
    expected: {
      act: { dropped: which === 'one app' ? 1 : 2 },
      after: { next: { ...MINTED, remaining: 7 }, own: { status: 200, source: 'reused', remaining: 6 }, same: true, took: 'at once', other: { status: 200, source: which === 'one app' ? 'reused' : 'minted', remaining: 5 } },
      calls: which === 'one app' ? 3 : 4,
      mints: which === 'one app' ? 3 : 4,
      events: ['minted', 'minted', 'forgotten', 'minted', 'reused', which === 'one app' ? 'reused' : 'minted'],
    },
  })),
  {
    name: 'a denial',
    written: 1,
    act: async ({ a }) => seen(await a.ask(CLEO)),
    after: async ({ a, b }) => {
      const next = await atOnce('the next request of another instance', b.ask(CLEO))
      return { next: seen(next.reply), took: next.took, own: seen(await a.ask(CLEO)), other: seen(await b.ask(CLEO, { appId: INVENTORY.id })) }
    },
    expected: {
      act: { status: 403, code: 'ACCESS_DENIED', remaining: 9 },
      after: { next: { status: 403, code: 'ACCESS_DENIED', remaining: 8 }, took: 'at once', own: { status: 403, code: 'ACCESS_DENIED', remaining: 7 }, other: { ...MINTED, remaining: 6 } },
      calls: 2,
      mints: 1,
      events: ['denied', 'denied', 'denied', 'minted'],
    },
  },
  {
    name: 'a request over the limit',
    written: 3,
    options: { rateLimit: { max: 2, mints: 2, timeWindow: '1 minute' } },
    prepare: async ({ a }) => {
      await a.ask(ANA)
      await a.ask(ANA)
    },
    act: async ({ a }) => seen(await a.ask(ANA)),
    after: async ({ b }) => ({ next: seen(await b.ask(ANA)), another: seen(await b.ask(BEN)) }),
    expected: {
      act: { ...REFUSED, remaining: 0 }, after: { next: { ...REFUSED, remaining: 0 }, another: { ...MINTED, remaining: 1 } }, calls: 2, mints: 2, events: ['minted', 'reused', 'limited', 'limited', 'minted'],
    },
  },
  {
    name: 'a mint that fails',
    written: 1,
    prepare: async ({ a }) => { a.toolJet.faults = (): Fault => ({ reply: { status: 500, body: { statusCode: 500, message: 'Internal server error' } } }) },
    act: async ({ a }) => seen(await a.ask(ANA)),
    after: async ({ a, b }) => {
      a.toolJet.faults = undefined
      const next = await atOnce('the next request of another instance', b.ask(ANA))
      return { next: seen(next.reply), took: next.took }
    },
    expected: { act: { status: 503, code: 'UNAVAILABLE', remaining: 9 }, after: { next: { ...MINTED, remaining: 8 }, took: 'at once' }, calls: 2, mints: 1, events: ['failed', 'minted'] },
  },
  {
    name: 'a URL that was minted without Redis',
    written: 2,
    isOutage: true,
    prepare: async (stage) => {
      stage.proxy.set({ refuse: true })
      state.set(stage, { [REPLACING]: (await stage.a.ask(ANA)).body.urlId })
    },
    act: async ({ a, proxy }) => {
      proxy.set({})
      await redisIsBack([a])
      const { remaining, ...acted } = await ask(a)
      return acted
    },
    after: async (stage, { urlId }) => {
      const next = await atOnce('the next request of another instance', stage.b.ask(ANA))
      return { next: seen(next.reply, { remaining: false }), took: next.took, same: [urlId, next.reply.body.urlId].map((id) => id === state.get(stage)![REPLACING]) }
    },
    expected: { act: { status: 200, source: 'reused' }, after: { next: { status: 200, source: 'reused' }, took: 'at once', same: [true, true] }, calls: 1, mints: 1, events: ['minted', 'reused', 'reused'] },
  },
]

/** Of a connection, not of a flow. */
const HANDSHAKE = new Set(['AUTH', 'CLIENT', 'COMMAND', 'HELLO', 'INFO', 'PING', 'SELECT'])

/** Scripts by their digest, as people may know them. */
const scriptNames = new Map<string, string>()

function idOf (command: Command): string {
  return command.script ?? command.name
}

function learn ({ name, args, script }: Command): undefined {
  if (name !== 'EVAL') return undefined
  const lua = String(args[1])
  const comment = /^\s*--+\s*(.*\S)/.exec(lua)?.[1]?.slice(0, 60)
  const calls = [...new Set([...lua.matchAll(/redis\.p?call\(\s*['"](\w+)/g)].map(([, call]) => call))]
  scriptNames.set(script!, `${comment ?? calls.join('+')} (${script!.slice(0, 8)})`)
  return undefined
}

function nameOf (id: string): string {
  return scriptNames.get(id) ?? id
}

interface Run {
  tookMs: number
  commands: string[]
  lost: number
  saw: Flow['expected']
  redis: string
}

/** @param doomed the command whose reply is lost, and which occurrence of it, from 1 */
async function run (t: Test, { prepare, act, after, options = {}, isOutage = false, written }: Flow, doomed?: { id: string, nth: number }): Promise<Run> {
  const proxy = await ReplyProxy.to(server.port)
  t.teardown(() => proxy.close()) // last of all: who closes still says something
  const common = { redisTimeoutMs: REDIS_TIMEOUT_MS, rateLimit: { max: 10, mints: 2, timeWindow: '1 minute' }, ...options }
  const a = await Portal.open(t, { redisUrl: server.url, options: { redis: `redis://127.0.0.1:${proxy.port}`, ...common } })
  const b = await Portal.open(t, { redisUrl: server.url, options: { ...common, redis: `redis://127.0.0.1:${looking.port}`, keyPrefix: a.prefix, tooljet: { url: a.toolJet.url, apiToken: API_TOKEN } } })
  const stage = { a, b, proxy }
  proxy.fate = learn
  await a.app.tooljetEmbed.health()
  await prepare?.(stage)
  if (!isOutage) await until('the events before are written', async () => (await readEvents(stage)).length >= written - 1)

  const commands: string[] = []
  let isActing = true
  proxy.fate = (command) => {
    learn(command)
    const id = idOf(command)
    // what is sent again is not lost again: what came first is
    if (!isActing || HANDSHAKE.has(command.name)) return undefined
    commands.push(id)
    return id === doomed?.id && proxy.lost === 0 && commands.filter((sent) => sent === id).length === doomed.nth ? 'lose' : undefined
  }
  const waited = stopwatch()
  const acted = await act(stage)
  const tookMs = waited()
  // its event is of the flow, too
  await until('the event of the flow is written', async () => (await readEvents(stage)).length >= written)
  isActing = false
  const then = await after(stage, acted)
  const { urlId, ...plain } = acted
  await Promise.all([a.audit(), b.audit()]) // the backlogs are empty
  return {
    tookMs,
    commands,
    lost: proxy.lost,
    redis: (await a.app.tooljetEmbed.health()).redis.state,
    saw: { act: plain, after: then, calls: a.toolJet.calls.length, mints: a.toolJet.mints.length, events: await readEvents(stage) },
  }
}

/** What people's answers left in the stream, read without a word to the instances. */
async function readEvents ({ a }: Stage): Promise<string[]> {
  const events = await readStream(a.redis, `${a.prefix}audit`)
  return events.flatMap(({ event }) => (event!.startsWith('url.') ? [event!.slice('url.'.length)] : [])).sort()
}

tap.test('a request whose reply is lost counts once, however often its user asks elsewhere before it is sent again', { buffered: true, timeout: 60_000 }, async (t) => {
  const proxy = await ReplyProxy.to(server.port)
  t.teardown(() => proxy.close())
  const options = { redisTimeoutMs: 10_000, rateLimit: { max: 60 } }
  const b = await Portal.open(t, { redisUrl: server.url, options })
  const a = await Portal.open(t, { redisUrl: server.url, options: { ...options, redis: `redis://127.0.0.1:${proxy.port}`, keyPrefix: b.prefix, tooljet: { url: b.toolJet.url, apiToken: API_TOKEN } } })
  const remaining = ({ headers }: Reply) => Number(headers['x-ratelimit-remaining'])
  t.equal(remaining(await b.ask(ANA)), 59)
  t.equal(remaining(await a.ask(ANA)), 58)
  proxy.fate = ({ script }) => {
    if (script !== COUNT) return undefined
    proxy.fate = undefined
    return 'lose'
  }
  const asked = a.ask(ANA)
  await until('the reply is lost', () => proxy.lost === 1)
  proxy.set({ refuse: true }) // before the client tries again
  for (let i = 0; i < 40; i++) t.equal((await b.ask(ANA)).status, 200)
  proxy.set({})
  t.equal(remaining(await asked), 57)
  t.equal(remaining(await b.ask(ANA)), 60 - 44)
})

for (const flow of FLOWS) {
  tap.test(flow.name, { buffered: true, timeout: 200_000 }, async (t) => {
    t.jobs = flow.isOutage === true ? JOBS : 1
    await run(t, flow) // Redis learns the scripts
    const undisturbed = await run(t, flow)
    const expected = { ...flow.expected, events: flow.expected.events.toSorted() }
    t.same(undisturbed.saw, expected, 'undisturbed')

    const sentSoFar = new Map<string, number>()
    const cases = undisturbed.commands.map((id) => {
      const nth = (sentSoFar.get(id) ?? 0) + 1
      sentSoFar.set(id, nth)
      return { id, nth }
    })
    t.ok(cases.length > 0)
    for (const doomed of cases) {
      t.test(`${flow.name}, without the reply to ${nameOf(doomed.id)}, no. ${doomed.nth}`, { buffered: true, timeout: 200_000 }, async (t) => {
        const disturbed = await run(t, flow, doomed)
        if (disturbed.lost === 0) return t.pass('was not sent this time: it is of no flow, but of the instance')
        const lateMs = disturbed.tookMs - undisturbed.tookMs
        t.ok(lateMs <= REDIS_TIMEOUT_MS + SLACK_MS, `answered ${Math.round(lateMs)} ms later`)
        t.same(disturbed.saw, expected)
        t.equal(disturbed.redis, 'up')
      })
    }
  })
}
