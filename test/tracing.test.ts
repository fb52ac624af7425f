import { AsyncLocalStorage } from 'node:async_hooks'
import { tracingChannel } from 'node:diagnostics_channel'
import { inspect } from 'node:util'
import { t as tap, test, type Test } from 'tap'
import type { TooljetEmbedMintTrace, TooljetEmbedUrlTrace } from '../plugin/index.js'
import { ANA, API_TOKEN, BEN, JWT_SECRET, Portal, releaseRedisAfter, SALES } from './support/portal.js'
import { refusal } from './support/refusal.js'
import { newClient } from './support/redis-client.js'
import { sharedRedisUrl } from './support/redis.js'

releaseRedisAfter(tap)

type Message = TooljetEmbedUrlTrace & TooljetEmbedMintTrace
interface Seen {
  channel: string
  phase: 'start' | 'end' | 'asyncStart' | 'asyncEnd' | 'error'
  /** As it was then. */
  message: Message
  same: Message
}

/** Subscribes to both channels until the test is over. */
function listen (t: Test): Seen[] {
  const seen: Seen[] = []
  for (const name of ['tooljet-embed:url', 'tooljet-embed:mint']) {
    const note = (phase: Seen['phase']) => (message: object): void => { seen.push({ channel: name, phase, message: { ...message } as Message, same: message as Message }) }
    const subscribers = { start: note('start'), end: note('end'), asyncStart: note('asyncStart'), asyncEnd: note('asyncEnd'), error: note('error') }
    const channel = tracingChannel(name)
    channel.subscribe(subscribers)
    t.teardown(() => channel.unsubscribe(subscribers))
  }
  return seen
}

test('the channels tell of each ask and each mint', async (t) => {
  const portal = await Portal.open(t, { options: { apps: { sales: { appId: SALES.id } } } })
  const { instance } = (await portal.app.tooljetEmbed.health()).audit
  const seen = listen(t)
  const minted = await portal.ask(ANA, { app: 'sales' })
  t.same(seen.map(({ channel, phase }) => `${channel.slice(14)} ${phase}`), ['url start', 'url end', 'mint start', 'mint end', 'mint asyncStart', 'mint asyncEnd', 'url asyncStart', 'url asyncEnd'])
  t.same(Object.keys(seen[0]!.message), ['instance', 'requestId'])
  const [audited] = await portal.audit()
  t.match(seen.at(-1)!.message, { instance, requestId: audited!['request_id'], app: 'sales', source: 'minted', urlId: minted.body.urlId, code: undefined, error: undefined, durationMs: Number })
  t.match(seen[5]!.message, { instance, app: 'sales', code: undefined, error: undefined, durationMs: Number })
  t.equal(new Set(seen.map(({ same }) => same)).size, 2, 'one message for one ask: what a subscriber puts there is there at the end')
  t.ok(seen.at(-1)!.message.durationMs! > seen[5]!.message.durationMs! && seen[5]!.message.durationMs! > 0)

  seen.length = 0
  await portal.askByDecorator(ANA, { app: 'sales' })
  t.match(seen, { length: 4 })
  t.match(seen.at(-1)!.message, { source: 'reused', urlId: minted.body.urlId })
})

test('the channels tell of failures, of those before the walk, too', async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: { max: 8 }, authorize: (_request, { email }) => { if (email === BEN) throw Object.assign(new Error(`no ${email}`), { code: 'E_DIRECTORY' }); return true } } })
  const seen = listen(t)
  const ends = (channel: string) => seen.splice(0).filter((one) => one.channel === channel && one.phase === 'asyncEnd').map(({ message }) => message)
  portal.toolJet.faults = () => ({ reply: { status: 500 } })
  await portal.ask(ANA)
  t.match(seen.filter(({ phase }) => phase === 'error').map(({ channel, message }) => [channel, message.code, message.error!.message]), [
    ['tooljet-embed:mint', 'TOOLJET_EMBED_UNAVAILABLE', /status 500/], ['tooljet-embed:url', 'TOOLJET_EMBED_UNAVAILABLE', /status 500/],
  ])
  t.match(seen.at(-1)!.message, { app: SALES.id, source: undefined, urlId: undefined, error: { code: 'TOOLJET_EMBED_UNAVAILABLE', statusCode: 503, stack: /status 500[^]*replies/, cause: undefined } })
  seen.length = 0
  portal.toolJet.faults = () => ({ reply: { status: 429, headers: { 'retry-after': '60' } } })
  await portal.ask(ANA, { appId: SALES.id, replaces: 'x' })
  t.match(ends('tooljet-embed:mint'), [{ code: 'TOOLJET_EMBED_BUSY' }])
  await portal.ask(ANA)
  t.same(seen.filter(({ channel }) => channel === 'tooljet-embed:mint'), [], 'ToolJet is not called in its pause')
  t.match(ends('tooljet-embed:url'), [{ code: 'TOOLJET_EMBED_BUSY' }])
  await portal.ask(ANA, { appId: 'pat_0123456789abcdef' })
  t.match(ends('tooljet-embed:url'), [{ code: 'TOOLJET_EMBED_BAD_REQUEST', app: undefined }], 'a made-up name is in no message')
  await portal.ask(ANA, '{')
  t.match(ends('tooljet-embed:url'), [{ code: /^FST_ERR_CTP/ }])
  await portal.app.inject({ method: 'POST', url: '/api/get-tooljet-url' })
  t.match(ends('tooljet-embed:url'), [{ code: 'TOOLJET_EMBED_UNAUTHENTICATED' }])
  for (let i = 0; i < 5; i++) await portal.ask(ANA, '[')
  t.match(ends('tooljet-embed:url').at(-1), { code: 'TOOLJET_EMBED_RATE_LIMITED' })
  await portal.ask(BEN)
  t.match(ends('tooljet-embed:url'), [{ code: 'E_DIRECTORY', error: { message: 'an error of the host\'s own' } }])
})

test('a store that is bound to an ask is there in its mint', async (t) => {
  const portal = await Portal.open(t)
  const asks = new AsyncLocalStorage<string | undefined>()
  const url = tracingChannel<unknown, TooljetEmbedUrlTrace>('tooljet-embed:url')
  const mint = tracingChannel<unknown, TooljetEmbedMintTrace>('tooljet-embed:mint')
  const inMints: (string | undefined)[] = []
  const note = (): void => { inMints.push(asks.getStore()) }
  url.start.bindStore(asks, (message) => (message as TooljetEmbedUrlTrace).requestId)
  mint.start.subscribe(note)
  t.teardown(() => {
    url.start.unbindStore(asks)
    mint.start.unsubscribe(note)
  })
  await portal.ask(ANA)
  t.same(inMints, [(await portal.audit())[0]!['request_id']])
})

test('without subscribers nothing is traced', async (t) => {
  const portal = await Portal.open(t)
  const prototype = Object.getPrototypeOf(tracingChannel('tooljet-embed:url')) as { tracePromise: (...args: unknown[]) => unknown }
  const { tracePromise } = prototype
  let calls = 0
  prototype.tracePromise = function (...args) {
    calls++
    return tracePromise.apply(this, args)
  }
  t.teardown(() => { prototype.tracePromise = tracePromise })
  t.match(await portal.ask(ANA), { status: 200 })
  t.match(await portal.ask(ANA), { status: 200 })
  t.equal(calls, 0)
  const seen = listen(t)
  t.match(await portal.ask(BEN), { status: 200 })
  t.equal(calls, 2)
  t.equal(seen.length, 8)
})

test('no message holds an e-mail or a secret', async (t) => {
  const seen = listen(t)
  const tokens: string[] = [API_TOKEN, JWT_SECRET, 'personal-access-token', 'pat_', 'deadbeef', 'redis-secret-of-the-tests', ANA, BEN, 'ana']
  const portal = await Portal.open(t, {
    fastify: { genReqId: (request) => String(request.headers['x-request-id']) },
    options: { authorize: (_request, { email, app }) => { if (app === 'refused') throw new Error(`${email} ${API_TOKEN}`); return true } },
  })
  for (const fault of [
    undefined, { cut: 'before' as const }, { reply: { status: 201, body: { redirectUrl: 'https://evil.example/?personal-access-token=pat_deadbeefdeadbeef' } } },
    refusal(404, `User ${ANA} not found`), { reply: { status: 201, body: `pat_deadbeef ${ANA}` } },
  ]) {
    portal.toolJet.faults = () => fault
    for (const ask of [{ appId: SALES.id, replaces: 'x' }, { appSlug: 'refused' }, { appId: ANA }, { appSlug: 'pat_deadbeef' }, '{']) {
      const { authorization } = portal.bearer(ANA)
      tokens.push(authorization.slice(7))
      await portal.ask(ANA, ask, { authorization, 'x-request-id': `Bearer ${authorization.slice(7)}`, 'user-agent': ANA })
    }
  }

  // Redis refuses to write the event: its client's error has the whole command
  const redis = newClient(await sharedRedisUrl())
  t.teardown(() => redis.disconnect())
  const refusing = new Proxy(redis, {
    get (target, name) {
      const method: unknown = Reflect.get(target, name)
      if (name !== 'evalshaBuffer' && name !== 'evalBuffer') return typeof method === 'function' ? method.bind(target) : method
      return async (...args: unknown[]) => {
        if (String(args).includes('url.minted')) throw Object.assign(new Error('NOPERM'), { command: { name, args: [...args, ANA, 'redis-secret-of-the-tests'] } })
        return (method as (...args: unknown[]) => unknown).apply(target, args)
      }
    },
  })
  let thrown: unknown
  const strict = await Portal.open(t, {
    redis: refusing,
    options: { audit: { delivery: 'required' } },
    before: (app) => { app.addHook('onError', async (_request, _reply, error) => { thrown = error }) },
  })
  t.equal((await strict.askByDecorator(ANA)).status, 503)
  t.match(inspect(thrown, { depth: 10 }), /NOPERM/, 'this test can see what is there')
  t.notMatch(inspect(thrown, { depth: 10 }), /redis-secret-of-the-tests/)

  t.ok(seen.length > 100)
  const text = inspect(seen, { depth: 20, showHidden: true, maxArrayLength: Infinity, maxStringLength: Infinity })
  t.match(text, /TOOLJET_EMBED_REDIS_DOWN/)
  for (const token of tokens) t.notOk(text.toLowerCase().includes(token.toLowerCase()), token.slice(0, 20))
})
