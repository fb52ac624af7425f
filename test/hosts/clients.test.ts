import { Cluster, Redis } from 'ioredis'
import { t as tap, test } from 'tap'
import { freePort, startServer } from '../../example/redis.js'
import { run as doctor } from '../../plugin/cli/doctor/run.js'
import { run as audit } from '../../plugin/cli/audit/run.js'
import { cliHere } from '../support/cli.js'
import { startCluster } from '../support/cluster.js'
import { rawRedis } from '../support/raw-redis.js'
import { ANA, API_TOKEN, BEN, Portal, releaseRedisAfter } from '../support/portal.js'
import { ReplyProxy } from '../support/reply-proxy.js'
import { until } from '../support/until.js'

releaseRedisAfter(tap)

/* The client that a host brings: with whatever options, in whatever state; or one that is none. */

const healthOf = async (portal: Portal) => (await portal.app.tooljetEmbed.health()).redis
const errorsOf = (portal: Portal) => portal.logLines.filter(({ level }) => Number(level) >= 50)

test('an ioredis client works with any of its options, from the first request on', { timeout: 120_000 }, async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  for (const options of [
    { lazyConnect: true, stringNumbers: true, connectionName: 'portal' },
    { enableOfflineQueue: false, maxRetriesPerRequest: 0 },
    { enableOfflineQueue: false, lazyConnect: true },
    { db: 5, keyPrefix: 'host:' },
    { maxRetriesPerRequest: null, commandTimeout: 5000, autoResubscribe: false, retryStrategy: () => null },
    { enableReadyCheck: false, autoResendUnfulfilledCommands: false, enableAutoPipelining: true, showFriendlyErrorStack: true, protocol: 2 as const },
  ]) {
    const client = new Redis(server.url, options)
    const portal = await Portal.open(t, { redis: client })
    t.match((await portal.ask(ANA)).body, { source: 'minted' }, JSON.stringify(options))
    t.match((await portal.ask(ANA)).body, { source: 'reused' })
    t.same(await healthOf(portal), { state: 'up' })
    t.equal((await portal.audit()).length, 2)
    t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true })
    t.same(errorsOf(portal), [])
    await portal.app.close()
  }
})

test('with auto-pipelining, too, a question leaves while the reply to the one before is on its way', async (t) => {
  const server = await startServer()
  const proxy = await ReplyProxy.to(server.port)
  const client = new Redis(proxy.port, { enableAutoPipelining: true })
  t.teardown(async () => {
    client.disconnect()
    await proxy.close()
    await server.stop()
  })
  const portal = await Portal.open(t, { redis: client, options: { redisTimeoutMs: 10_000 } })
  for (const email of [ANA, BEN]) await portal.ask(email)
  await portal.audit()

  const passed: string[] = []
  proxy.fate = ({ name, args }) => {
    if (name !== 'EVALSHA' || !args.some((arg) => String(arg).endsWith(':urls'))) return
    passed.push('question')
    return passed.length === 1 ? { delayMs: 1500 } : undefined
  }
  const first = portal.ask(ANA).then(() => { passed.push('answer') })
  await until('the first question has passed', () => passed.length > 0)
  await portal.ask(BEN)
  await first
  t.same(passed, ['question', 'question', 'answer'])
})

test('a client that has ended, serves another purpose, or reaches a replica is an outage that says so', { timeout: 120_000 }, async (t) => {
  const server = await startServer()
  const replica = await startServer({ args: ['--replicaof', `127.0.0.1 ${server.port}`] })
  t.teardown(() => Promise.all([server.stop(), replica.stop()]))
  const connected = async (url: string, options = {}) => {
    const client = new Redis(url, options)
    client.on('error', () => {})
    t.teardown(() => client.disconnect())
    await client.ping()
    return client
  }
  const quit = await connected(server.url)
  await quit.quit()
  const subscriber = await connected(server.url, { protocol: 2 })
  await subscriber.subscribe('news')
  for (const [client, what] of [
    [quit, /client that the host gave has ended/],
    [subscriber, /is subscribed or monitors/],
    [await connected(replica.url, { readOnly: true }), /replica/],
  ] as const) {
    const portal = await Portal.open(t, { redisUrl: server.url, options: { redis: client } })
    t.equal((await portal.ask(ANA)).status, 200)
    t.equal((await healthOf(portal)).state, 'down')
    t.match(errorsOf(portal), [{ msg: what }])
  }
  const giving = await connected(server.url, { retryStrategy: () => null })
  const portal = await Portal.open(t, { redisUrl: server.url, options: { redis: giving } })
  t.equal((await healthOf(portal)).state, 'up')
  giving.stream.destroy()
  await until('it has ended', () => giving.status === 'end')
  t.equal((await portal.ask(ANA)).status, 200)
  t.match(errorsOf(portal), [{ msg: /has ended/ }])
  await giving.connect()
  await until('the host has connected it again', async () => (await healthOf(portal)).state === 'up')
})

test('a Cluster client works with any of its options; one that reaches nothing says why', { timeout: 120_000 }, async (t) => {
  const cluster = await startCluster(t)
  for (const options of [{ enableOfflineQueue: false }, { lazyConnect: true }, { scaleReads: 'slave' as const }, { scaleReads: 'all' as const }, { redisOptions: { commandTimeout: 5000 } }]) {
    const portal = await Portal.open(t, { redis: cluster.connect(options) })
    t.match((await portal.ask(ANA)).body, { source: 'minted' }, JSON.stringify(options))
    t.equal((await portal.audit()).length, 1)
    t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true })
    t.same(errorsOf(portal), [])
  }
  const nowhere = new Cluster([{ host: '127.0.0.1', port: await freePort() }])
  nowhere.on('error', () => {})
  const portal = await Portal.open(t, { redisUrl: cluster.servers[0]!.url, options: { redis: nowhere } })
  t.teardown(() => nowhere.disconnect())
  t.equal((await portal.ask(BEN)).status, 200)
  t.match(errorsOf(portal)[0], { msg: /no node of the Cluster can be reached/ })
})

class NodeRedis { isOpen = false; sendCommand () {} get () {} eval () {} }
class Upstash { eval () {} evalsha () {} ping () {} xrange () {} }
class Bun { connected = false; send () {} get () {} }

test('a client that looks for something else than what is there says what it did not find', { timeout: 120_000 }, async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const ofSentinels = (port: number) => new Redis({ sentinels: [{ host: '127.0.0.1', port }], name: 'portal', sentinelRetryStrategy: () => 100 })
  for (const [client, what] of [
    [ofSentinels(await freePort()), /no Sentinel can be reached/],
    [ofSentinels(server.port), /no Sentinel can be reached/],
    [new Cluster([{ host: '127.0.0.1', port: server.port }]), /no Cluster: give a client for one server/],
  ] as const) {
    client.on('error', () => {})
    t.teardown(() => client.disconnect())
    const portal = await Portal.open(t, { redisUrl: server.url, options: { redis: client } })
    t.equal((await portal.ask(ANA)).status, 200)
    t.equal((await healthOf(portal)).state, 'down')
    await until(`it is told: ${what}`, () => errorsOf(portal).some(({ msg }) => what.test(String(msg))))
    t.notMatch(errorsOf(portal), [{ msg: /has ended/ }])
  }
})

test('a client that does not fit is refused at the start, with which do and why', async (t) => {
  for (const [client, why] of [[new NodeRedis(), /node-redis/], [new Upstash(), /Upstash/], [new Bun(), /Bun/], [{ send_command () {} }, /callbacks/], [{ host: 'localhost' }, /an object/], [Redis, /a function/], [6379, /number/]] as const) {
    await t.rejects(Portal.open(t, { options: { redis: client as never } }), { code: 'TOOLJET_EMBED_OPTIONS', message: why }, String(why))
    await t.rejects(Portal.open(t, { options: { redis: client as never } }), { message: /an ioredis client, one of iovalkey, or a URL/ })
  }
})

test('a command that meets something else than Redis ends with neither 0 nor 1', { timeout: 120_000 }, async (t) => {
  for (const answer of ['HTTP/1.1 400 Bad Request\r\n\r\n', '+OK\r\n', ':1\r\n', '*-1\r\n', '$-1\r\n', '-\r\n', '-ERR unknown command\r\n', '%1\r\n+a\r\n+b\r\n']) {
    const url = await rawRedis(t, () => answer)
    const env = { TOOLJET_EMBED_ENCRYPTION_KEY: 'key-of-the-log-4d1f', TOOLJET_URL: 'http://127.0.0.1:1', TOOLJET_API_TOKEN: API_TOKEN, REDIS_URL: url }
    for (const [program, args] of [[audit, ['query']], [audit, ['stats', '--by', 'app']], [audit, ['export', '--format', 'ecs']], [audit, ['reindex']], [doctor, []]] as const) {
      const { code, stdout, stderr } = await cliHere([...args], { program, env })
      t.ok([2, 3, 70].includes(code), `${JSON.stringify(answer)} ${args.join(' ')}: ${code} ${stdout} ${stderr}`)
    }
  }
})
