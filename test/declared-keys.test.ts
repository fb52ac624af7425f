import { t as tap, test, type Test } from 'tap'
import { startServer, type RedisServer } from '../example/redis.js'
import { AuditKeys } from '../plugin/audit/audit-keys.js'
import type { TooljetEmbedOptions } from '../plugin/index.js'
import { ANA, API_TOKEN, BEN, CLEO, INVENTORY, Portal, SALES, redisIsBack } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { ScriptWatch, type ScriptCall } from './support/script-keys.js'
import { until } from './support/until.js'

tap.setTimeout(120_000)

const OMAR = 'omar@acme.test'
const DEV = 'dev@tooljet.io'
const NOBODY = 'nobody@acme.test'
const APPS = { byId: { appId: SALES.id }, bySlug: { appSlug: SALES.slug }, stock: { appId: INVENTORY.id }, ghost: { appId: '00000000-0000-4000-8000-000000000000' } }
const PLENTY = { max: 10_000, mints: 10_000 }
const MAX_ENTRIES = 20
const WITHOUT_SCRIPTS = ['the audit log is verified', 'health', 'close']

/** What is done with the plugin, and a check that it was. */
type Flow = [name: string, run: () => Promise<unknown>]

async function open (t: Test): Promise<{ server: RedisServer, watch: ScriptWatch }> {
  const server = await startServer()
  t.teardown(() => server.stop())
  const watch = await ScriptWatch.open(server.port)
  t.teardown(() => watch.close())
  return { server, watch }
}

test('a key that a script does not declare is found, whatever touches it', async (t) => {
  const { server, watch } = await open(t)
  const redis = newClient(server.url)
  t.teardown(() => redis.disconnect())
  await watch.begin('honest')
  await redis.eval("redis.call('TIME') redis.call('SET', KEYS[1], 'a\\0\"b\\n \" \" c') return redis.call('DEL', KEYS[1], KEYS[2])", 2, 'one', 'two')
  await redis.eval("return redis.call('GET', KEYS[1])", 1, 'b\u00e4\\" "')
  await redis.call('FUNCTION', 'LOAD', "#!lua name=own\nredis.register_function('own', function (keys) return redis.call('GET', keys[1] .. ':more') end)")
  await redis.call('FCALL', 'own', '1', 'one')
  t.same(await watch.undeclared(), [], 'functions are for people, and declare but the stream')

  await watch.begin('sly')
  const sly = "return redis.call('DEL', KEYS[1], KEYS[1] .. ':more')"
  await redis.eval(sly, 1, 'one')
  await redis.evalsha(await redis.script('LOAD', sly) as string, 1, 'two')
  await redis.eval("\nif redis.call('EXISTS', 'one') == 0 then redis.pcall('HSET', ARGV[1], 'a', 'b') end", 1, 'one', 'three')
  await watch.begin('end')
  t.match(await watch.undeclared(), [
    { flow: 'sly', script: sly, command: 'DEL', key: 'one:more' },
    { flow: 'sly', script: /^if redis/, command: 'HSET', key: 'three' },
  ])
  t.equal(watch.calls().length, 5)
})

const byId = { appId: SALES.id }
const minted = { status: 200, body: { source: 'minted' } }
const reused = { status: 200, body: { source: 'reused' } }
const code = (name: string): object => ({ body: { code: `TOOLJET_EMBED_${name}` } })

type Portals = Awaited<ReturnType<typeof openPortals>>

/** One fleet for each kind of flow. */
async function openPortals (t: Test, server: RedisServer) {
  const openSeveral = (count: number, options: Partial<TooljetEmbedOptions>): Promise<Portal[]> => {
    return Portal.openSeveral(t, count, { redisUrl: server.url, options: { apps: APPS, rateLimit: PLENTY, ...options } })
  }
  const [one, two] = await openSeveral(2, { audit: { maxEntries: MAX_ENTRIES } }) as [Portal, Portal]
  const [limited] = await openSeveral(1, { rateLimit: { max: 4, mints: 1 } }) as [Portal]
  const [failing] = await openSeveral(1, {}) as [Portal]
  const [cutOff, other] = await openSeveral(2, { redisTimeoutMs: 800 }) as [Portal, Portal]
  const [former] = await openSeveral(1, { encryptionKey: 'the former key of this test' }) as [Portal]
  const [rotated] = await openSeveral(1, {
    encryptionKey: ['the present key of this test', 'the former key of this test'],
    keyPrefix: former.prefix,
    tooljet: { url: former.toolJet.url, apiToken: API_TOKEN },
  }) as [Portal]
  return { one, two, limited, failing, cutOff, other, former, rotated }
}

const requests = (t: Test, { one, two }: Portals): Flow[] => [
  ['a first request by id', async () => t.match(await one.ask(ANA, byId), minted)],
  ['a first request by slug', async () => t.match(await one.ask(BEN, { appSlug: SALES.slug }), minted)],
  ['a first request by alias', async () => t.match(await one.ask(OMAR, { app: 'stock' }), minted)],
  ['a hit', async () => {
    t.match(await one.ask(ANA, byId), reused)
    t.match(await one.askByDecorator(ANA, byId), reused)
  }],
  ['a hit of another instance', async () => t.match(await two.ask(ANA, byId), reused)],
  ['replaces', async () => {
    const { body: { urlId } } = await one.ask(ANA, byId)
    t.match(await one.ask(ANA, { ...byId, replaces: urlId }), minted)
    t.match(await two.ask(ANA, { ...byId, replaces: urlId }), reused)
  }],
  ['waiting for the mint of another instance', async () => {
    one.toolJet.faults = () => ({ delayMs: 200 })
    const replies = await Promise.all([one, two, one, two].map((portal) => portal.ask(DEV, byId)))
    t.same(replies.map(({ body }) => body.source).toSorted(), ['minted', 'reused', 'reused', 'reused'])
    one.toolJet.faults = undefined
  }],
]

const forgets = (t: Test, { one, two }: Portals): Flow[] => [
  ['forget of one app', async () => {
    t.equal(await two.app.tooljetEmbed.forget({ email: ANA, ...byId }), 1)
    t.match(await one.ask(ANA, byId), minted)
  }],
  ['forget of all apps', async () => {
    t.match(await one.ask(ANA, { app: 'stock' }), minted)
    t.equal(await two.app.tooljetEmbed.forget({ email: ANA }), 2)
    t.match(await one.ask(ANA, byId), minted)
  }],
  ['forget during a mint', async () => {
    one.toolJet.faults = () => ({ delayMs: 200 })
    const calls = one.toolJet.calls.length
    const slow = one.ask(DEV, { app: 'stock' })
    await until('the mint is under way', () => one.toolJet.calls.length > calls)
    await two.app.tooljetEmbed.forget({ email: DEV })
    await slow
    one.toolJet.faults = undefined
  }],
]

const denials = (t: Test, { one, two }: Portals): Flow[] => [
  ['denial: no access', async () => {
    t.match(await one.ask(CLEO, byId), code('ACCESS_DENIED'))
    t.match(await two.ask(CLEO, byId), code('ACCESS_DENIED'))
  }],
  ['denial: unknown user', async () => t.match(await one.ask(NOBODY, byId), code('USER_NOT_FOUND'))],
  ['denial: unknown app', async () => t.match(await one.ask(ANA, { app: 'ghost' }), code('APP_NOT_FOUND'))],
  ['denial of what is cached', async () => {
    const { body: { urlId } } = await two.ask(BEN, byId)
    one.toolJet.faults = () => ({ reply: { status: 403, body: { statusCode: 403, message: 'You do not have access to this app', error: 'Forbidden' } } })
    t.match(await one.ask(BEN, { ...byId, replaces: urlId }), { status: 403 })
    one.toolJet.faults = undefined
  }],
]

const failures = (t: Test, { limited, failing, cutOff, other, former, rotated }: Portals, server: RedisServer): Flow[] => [
  ['ToolJet fails, five times, and recovers', async () => {
    failing.toolJet.faults = () => ({ reply: { status: 500 } })
    for (let i = 0; i < 6; i++) t.match(await failing.ask([ANA, BEN, OMAR, DEV, CLEO][i % 5]!, { app: 'stock' }), code('UNAVAILABLE'))
    failing.toolJet.faults = undefined
    await until('ToolJet is probed', async () => (await failing.ask(ANA, byId)).status === 200)
  }],
  ['ToolJet asks for a pause', async () => {
    failing.toolJet.faults = () => ({ reply: { status: 429, headers: { 'retry-after': '1' } } })
    t.match(await failing.ask(BEN, byId), code('BUSY'))
    failing.toolJet.faults = undefined
    await until('the pause is over', async () => (await failing.ask(BEN, byId)).status === 200)
  }],
  ['limits', async () => {
    const { body: { urlId } } = await limited.ask(ANA, byId)
    t.match(await limited.ask(ANA, { ...byId, replaces: urlId }), code('RATE_LIMITED'), 'mints')
    for (let i = 0; i < 2; i++) await limited.ask(ANA, byId)
    t.match(await limited.ask(ANA, byId), code('RATE_LIMITED'), 'max')
  }],
  ['a value that cannot be decrypted', async () => {
    t.match(await rotated.ask(ANA, byId), minted)
    t.match(await former.ask(ANA, byId), minted)
    t.match(await former.ask(ANA, byId), reused)
  }],
  ['Redis stalls during a mint', async () => {
    cutOff.toolJet.faults = () => { server.process.kill('SIGSTOP'); return undefined }
    const { body: { urlId } } = await cutOff.ask(ANA, byId)
    cutOff.toolJet.faults = undefined
    server.process.kill('SIGCONT')
    await redisIsBack([cutOff])
    t.match(await cutOff.ask(ANA, byId), { body: { source: 'reused', urlId } })
    t.match(await other.ask(ANA, byId), { body: { source: 'reused', urlId } }, 'it was stored then')
  }],
]

const upkeep = (t: Test, portals: Portals, keys: AuditKeys): Flow[] => [
  ['the audit log is trimmed', async () => {
    for (let i = 0; i < 160; i++) await [portals.one, portals.two][i % 2]!.ask([ANA, OMAR, DEV][i % 3]!, byId)
    await until('all is written', async () => (await Promise.all([portals.one, portals.two].map((portal) => portal.app.tooljetEmbed.health()))).every(({ audit }) => audit.backlog === 0))
    await until('it is trimmed', async () => await portals.one.redis.xlen(keys.stream) < MAX_ENTRIES + 100 + 10)
  }],
  ['the audit log is verified', async () => t.match(await portals.one.app.tooljetEmbed.audit.verify(), { ok: true })],
  ['health', async () => { for (const portal of Object.values(portals)) t.match(await portal.app.tooljetEmbed.health(), { redis: { state: 'up' } }) }],
  ['close', async () => { for (const portal of Object.values(portals)) await portal.app.close() }],
]

test('every script declares every key that it touches', async (t) => {
  const { server, watch } = await open(t)
  await watch.begin('start')
  const portals = await openPortals(t, server)
  const keys = new AuditKeys(`${portals.one.prefix}audit`)
  const flows = [...requests(t, portals), ...forgets(t, portals), ...denials(t, portals), ...failures(t, portals, server), ...upkeep(t, portals, keys)]
  for (const [name, run] of flows) {
    await watch.begin(name)
    await run()
  }
  await watch.begin('end')

  const calls = watch.calls()
  const isOfAudit = ({ keys }: ScriptCall): boolean => keys.every((key) => key.includes(':audit'))
  const silent = flows.map(([name]) => name).filter((name) => !calls.some((call) => call.flow === name && !isOfAudit(call)))
  t.strictSame(silent.filter((name) => !WITHOUT_SCRIPTS.includes(name)), [], 'every flow ran a script, and not only that of the audit log')
  t.ok(new Set(calls.map(({ script }) => script)).size >= 8, 'and not all of them the same')
  const has = (...words: string[]): boolean => calls.some(({ commands }: ScriptCall) => commands.some((command) => words.every((word, i) => word === command[i])))
  t.ok(has('XADD', keys.stream) && has('XTRIM', keys.stream))
  for (const { key } of [keys.email(ANA), keys.app('byId')]) t.ok(has('APPEND', key), `${key} is written by a script`)
  t.ok(keys.buckets.some((key) => has('STRLEN', key)), 'a bucket is trimmed by a script')
  for (const { flow, script, command, key } of await watch.undeclared()) t.fail(`${script}: ${command} ${key}, which is not among its KEYS`, { flow })
})
