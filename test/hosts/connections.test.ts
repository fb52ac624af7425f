import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { Redis } from 'ioredis'
import { t as tap, test, type Test } from 'tap'
import { startServer, freePort } from '../../example/redis.js'
import type { TooljetEmbedOptions } from '../../plugin/index.js'
import { run as doctor } from '../../plugin/cli/doctor/run.js'
import { run as audit } from '../../plugin/cli/audit/run.js'
import { run as warm } from '../../plugin/cli/warm/run.js'
import { parseRedisUrl } from '../../plugin/redis/url.js'
import { urlFor } from '../support/acl.js'
import { cliHere } from '../support/cli.js'
import { rawRedis } from '../support/raw-redis.js'
import { ANA, API_TOKEN, BEN, Portal, releaseRedisAfter } from '../support/portal.js'
import { newClient } from '../support/redis-client.js'
import { keysOf } from '../support/redis.js'
import { until } from '../support/until.js'

releaseRedisAfter(tap)

/* A connection that is not what was asked for: another database, another user, a URL that says something else than was meant. */

async function ownServer (t: Test) {
  const server = await startServer()
  const admin = newClient(server.url)
  t.teardown(async () => {
    admin.disconnect()
    await server.stop()
  })
  return { server, admin, database: (url: string, db: number | string) => Object.assign(new URL(url), { pathname: `/${db}` }).href }
}

/** @returns the address of what does no more than take connections */
async function listening (t: Test, take: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    take(socket.on('error', () => {}).resume())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

const open = (t: Test, url: string, options: Partial<TooljetEmbedOptions> = {}) => Portal.open(t, { redisUrl: url, options: { redis: url, redisTimeoutMs: 1000, ...options } })
const redisOf = async (portal: Portal) => (await portal.app.tooljetEmbed.health()).redis
const outages = (portal: Portal) => portal.logLines.filter(({ msg }) => /Redis connection lost/.test(String(msg)))
const isUp = (portal: Portal) => until('Redis is there', async () => (await redisOf(portal)).state === 'up')
const isDown = (portal: Portal, code: string) => until(`Redis is away: ${code}`, async () => (await redisOf(portal)).code === code)

test('the users of docs/audit.md work in database 0 and in database 3, and each keeps to its own', { timeout: 120_000 }, async (t) => {
  const { server, database } = await ownServer(t)
  const plugin = await urlFor('tooljet-embed', server.url, 'test-*:')
  const reader = (await urlFor('auditor', server.url, 'test-*:'))
  for (const db of [0, 3]) {
    const portal = await open(t, database(plugin, db))
    t.equal((await portal.ask(ANA)).status, 200)
    t.same(await redisOf(portal), { state: 'up' })
    await portal.app.close()
    const stream = `${portal.prefix}audit`
    const here = newClient(database(server.url, db))
    const there = newClient(database(server.url, 3 - db))
    t.teardown(() => { here.disconnect(); there.disconnect() })
    t.ok((await keysOf(here, portal.prefix)).length > 3)
    t.same(await keysOf(there, portal.prefix), [])
    t.match(await cliHere(['query', '--json', '--stream', stream, '--redis', database(reader.replace('test-*:', portal.prefix), db)]), { code: 0, stdout: /url\.minted/ })
    t.match(await cliHere(['query', '--stream', stream, '--redis', database(reader, 3 - db)]), { code: 2, stderr: /there is no stream/ })
  }
})

test('a SELECT that is refused is an outage with its reason, at the start and at each reconnect; nothing lands elsewhere', { timeout: 120_000 }, async (t) => {
  const { server, admin, database } = await ownServer(t)
  const url = database(await urlFor('tooljet-embed', server.url, 'test-*:'), 3)
  const setSelect = async (may: boolean) => admin.call('ACL', 'SETUSER', 'tooljet-embed-test', may ? '+select' : '-select')
  await setSelect(false)
  const refused = await open(t, url)
  t.match(await refused.ask(ANA), { status: 200, body: { source: 'minted' } }, 'from this instance\'s memory')
  t.match(await redisOf(refused), { state: 'down', code: 'NOPERM' })
  t.match(outages(refused), [{ level: 50, msg: /\+select/, err: { message: /NOPERM.*'select'/ }, redis: `127.0.0.1:${server.port}` }])
  const failing = await open(t, url, { onRedisDown: 'fail' })
  t.match(await failing.ask(ANA), { status: 503, body: { code: 'TOOLJET_EMBED_REDIS_DOWN' } })
  t.equal(await admin.dbsize(), 0)
  for (const args of [['query'], ['stats'], ['verify']]) {
    t.match(await cliHere([...args, '--redis', url], { env: { TOOLJET_EMBED_ENCRYPTION_KEY: 'key-of-the-log-4d1f' } }), { code: 3, stdout: '', stderr: /refuses: NOPERM.*'select'/ }, args[0]!)
  }

  await setSelect(true)
  await isUp(refused)
  await until('its events are written', async () => (await refused.app.tooljetEmbed.health()).audit.backlog === 0)
  t.equal(await admin.dbsize(), 0)

  await setSelect(false)
  await admin.call('CLIENT', 'KILL', 'USER', 'tooljet-embed-test')
  await isDown(refused, 'NOPERM')
  t.equal((await refused.ask(BEN)).status, 200)
  t.equal(await admin.dbsize(), 0)
  await setSelect(true)
  await isUp(refused)
  t.equal(outages(refused).length, 2)
})

test('a client of the host that sits in another database than it believes is not used there, and is led back', { timeout: 120_000 }, async (t) => {
  const { server, admin, database } = await ownServer(t)
  const url = database(await urlFor('tooljet-embed', server.url, 'test-*:'), 3)
  for (const options of [{}, { enableAutoPipelining: true }, { lazyConnect: true }, { enableReadyCheck: false }]) {
    await admin.call('ACL', 'SETUSER', 'tooljet-embed-test', '-select')
    const client = new Redis(url, options)
    client.on('error', () => {})
    t.teardown(() => client.disconnect())
    const portal = await Portal.open(t, { redisUrl: server.url, options: { redis: client, redisTimeoutMs: 500 } })
    t.equal((await portal.ask(ANA)).status, 200)
    t.match(await redisOf(portal), { state: 'down', code: 'NOPERM' }, JSON.stringify(options))
    t.equal(await admin.dbsize(), 0)
    await admin.call('ACL', 'SETUSER', 'tooljet-embed-test', '+select')
    await isUp(portal)
    await until('its events are written', async () => (await portal.app.tooljetEmbed.health()).audit.backlog === 0)
    t.equal(await admin.dbsize(), 0)
    t.equal(client.listenerCount('error'), 1, 'its errors are still the host\'s')
    await portal.app.close()
  }
})

const URLS: [url: string, problem: RegExp | { db?: number, host?: string, port?: number, username?: string, password?: string, family?: number }][] = [
  ['redis://hunter2%zz@h', /begins no escape: write %25/],
  ['redis://u:hunter2%@h', /write %25/],
  ['http://:hunter2@h', /does not begin with redis/],
  ['redis+tls://:hunter2@h', /does not begin with redis/],
  ['unix:///tmp/hunter2.sock', /does not begin with redis/],
  ['/tmp/hunter2.sock', /does not begin with redis/],
  ['', /empty/],
  ['redis://', /no URL|names no host/],
  ['redis:///3', /names no host/],
  ['redis://:hunter2@:6379', /no URL|names no host/],
  ['redis://h/abc', /database that is no number/],
  ['redis://h/-1', /database that is no number/],
  ['redis://h/3/', /database that is no number/],
  ['redis://h/?db=x', /database that is no number/],
  ['redis://user:12/hunter2@h', /database that is no number/],
  ['redis://user:hun/ter2@h', /%2F/],
  ['redis://user:hun#ter2@h', /%23/],
  ['redis://user:12?hunter2@h', /parameter other than/],
  ['redis://h?tls=false', /parameter other than/],
  ['redis://h?family=5', /family/],
  ['redis://h', { host: 'h', port: 6379, db: 0 }],
  ['redis://h:6380/3', { port: 6380, db: 3 }],
  ['redis://h/3?db=4', { db: 3 }],
  ['redis://h?db=4', { db: 4 }],
  ['redis://h?family=6', { family: 6 }],
  ['redis://[::1]:6380/1', { host: '::1', port: 6380, db: 1 }],
  ['redis://:p%40s%2Fs%25@h', { username: '', password: 'p@s/s%' }],
  ['redis://alice:Rukm@ni23@h', { username: 'alice', password: 'Rukm@ni23' }],
  ['redis://:YBhV+D1wU=@h', { password: 'YBhV+D1wU=' }],
  ['redis://h?enableReadyCheck=false&maxRetriesPerRequest=null', /parameter other than/],
  ['redis://h?password=YBhV+D1wU=', /parameter other than/],
  ['redis://:!@#$%^&*()[]@h', /%23|write %25/],
  ['redis://user@h', { username: 'user', password: '' }],
  ['redis://us%3Aer:pass@h', { username: 'us:er', password: 'pass' }],
  ['REDISS://h', { host: 'h' }],
  ['rediss://:p@h:6380/2', { host: 'h', port: 6380, db: 2, password: 'p' }],
]

test('a Redis URL means what ioredis takes it for, or it is refused at the start, by the plugin and by the commands', { timeout: 120_000 }, async (t) => {
  for (const [url, expected] of URLS) {
    if (!(expected instanceof RegExp)) {
      const ours = parseRedisUrl(url)
      t.match(ours, expected, url)
      const { host, port, db, username, password, family } = new Redis(url, { lazyConnect: true }).options
      t.match({ host, port, db, username: username ?? undefined, password: password ?? undefined, family: family ?? undefined }, { ...ours, tls: undefined }, `${url}: as ioredis reads it`)
      t.equal(ours.tls !== undefined, /^rediss:/i.test(url))
      continue
    }
    const error = await Portal.open(t, { options: { redis: url } }).catch((error: Error & { code?: string }) => error) as Error & { code?: string }
    t.match({ code: error.code, message: error.message }, { code: 'TOOLJET_EMBED_OPTIONS', message: expected }, url)
    t.notMatch(error.message, /hunter2|ter2/)
    const env = { TOOLJET_URL: 'http://127.0.0.1:1', TOOLJET_API_TOKEN: API_TOKEN, REDIS_URL: url }
    if (url === '') continue
    for (const [program, args] of [[audit, ['query']], [doctor, []], [warm, [`${t.testdir({ 'a.csv': 'email,app\nana@acme.test,sales\n' })}/a.csv`]]] as const) {
      const { code, stdout, stderr } = await cliHere([...args], { program, env })
      t.match({ code, stdout, stderr }, { code: 2, stdout: '', stderr: expected })
      t.notMatch(stderr, /hunter2|ter2/)
    }
  }
})

test('why Redis is unavailable is said in one line with its address, what to do, and no secret; health has the code', { timeout: 120_000 }, async (t) => {
  const { server, admin } = await ownServer(t)
  await admin.call('ACL', 'SETUSER', 'ana', 'on', '>right', '~*', '+@all')
  const closed = await freePort()
  const cases: [url: string, code: string | undefined, message: RegExp, remedy: RegExp][] = [
    [`redis://127.0.0.1:${closed}`, 'ECONNREFUSED', new RegExp(`ECONNREFUSED 127\\.0\\.0\\.1:${closed}`), /nothing listens there/],
    [`redis://localhost:${closed}`, 'ECONNREFUSED', /ECONNREFUSED/, /nothing listens there/],
    ['redis://no-such-host.invalid', /^(?:ENOTFOUND|EAI_AGAIN)$/ as never, /(?:ENOTFOUND|EAI_AGAIN) no-such-host\.invalid/, /no such host name/],
    [server.url.replace('//', '//ana:hunter2@'), 'WRONGPASS', /WRONGPASS/, /user and password that Redis knows/],
    [server.url.replace('//', '//bob@'), 'WRONGPASS', /WRONGPASS/, /user and password/],
    [`${server.url}/4000`, 'ERR', /DB index is out of range/, /no such database/],
  ]
  for (const [url, code, message, remedy] of cases) {
    const portal = await open(t, url)
    t.equal((await portal.ask(ANA)).status, 200)
    const { state, ...others } = await redisOf(portal)
    t.match({ state, ...others }, { state: 'down', code }, url)
    t.match(outages(portal), [{ level: 50, msg: remedy, err: { message }, redis: new URL(url).host.replace(/invalid$/, 'invalid:6379') }])
    t.notMatch(portal.logText, /hunter2/)
  }
  await admin.config('SET', 'requirepass', 'hunter2')
  const without = await open(t, server.url)
  await isDown(without, 'NOAUTH')
  t.match(outages(without), [{ msg: /user and password/, err: { message: /NOAUTH/ } }])
  await admin.config('SET', 'requirepass', '')
  await isUp(without)

  const odd = await rawRedis(t, ([command, ...args]) => (/AUTH|HELLO/i.test(command!)
    ? `-ERR unknown command '${command}', with args beginning with: ${args.map((arg) => `'${arg}'`).join(' ')} \r\n`
    : '-NOAUTH Authentication required.\r\n'))
  const old = await open(t, odd.replace('//', '//ana:hunter2@'))
  await isDown(old, 'ERR')
  t.match(outages(old)[0], { err: { message: /unknown command/ } })
  t.notMatch(old.logText, /hunter2/, 'a server that does not know AUTH repeats what it was sent')

  const loading = await rawRedis(t, () => '-LOADING Redis is loading the dataset in memory\r\n')
  await isDown(await open(t, loading), 'LOADING')
  const full = await rawRedis(t, () => '-ERR max number of clients reached\r\n')
  t.match(outages(await open(t, full))[0], { msg: /maxclients/ })
})

test('what takes connections and drops them, or says nothing, is no Redis that was there: the commands end with 3, and the log asks about TLS', { timeout: 120_000 }, async (t) => {
  const env = { TOOLJET_EMBED_ENCRYPTION_KEY: 'key-of-the-log-4d1f', TOOLJET_URL: 'http://127.0.0.1:1', TOOLJET_API_TOKEN: API_TOKEN }
  const pairs = `${t.testdir({ 'a.csv': 'email,app\nana@acme.test,sales\n' })}/a.csv`
  const takers: Record<string, (socket: Socket) => void> = {
    'a proxy without a server behind it': (socket) => { socket.destroy() },
    'a port that wants TLS': (socket) => { socket.on('data', () => { socket.resetAndDestroy() }) },
    'one that says nothing': () => {},
  }
  for (const [name, take] of Object.entries(takers)) {
    const address = await listening(t, take)
    const portal = await open(t, `redis://${address}`)
    t.match(await redisOf(portal), { state: 'down' })
    t.match(outages(portal), [{ msg: /is TLS on both sides \(rediss:\/\/\) or on neither/, redis: address }], name)
    if (name === 'one that says nothing') continue // 5 s each
    for (const [program, args] of [[audit, ['query']], [audit, ['tail']], [doctor, []], [warm, [pairs]]] as const) {
      const { code, stdout, stderr } = await cliHere([...args], { program, env: { ...env, REDIS_URL: `redis://${address}` } })
      t.match({ code, said: stdout + stderr }, { code: 3, said: `Redis cannot be reached at ${address}: ` }, `${name}: ${args.join(' ')}`)
      t.notMatch(stderr, /Redis connection restored/)
    }
  }
})

test('what begins as one outage and goes on as another is told again, when somebody has to mend it', { timeout: 120_000 }, async (t) => {
  const port = await freePort()
  const portal = await open(t, `redis://ana:hunter2@127.0.0.1:${port}`)
  await isDown(portal, 'ECONNREFUSED')
  const server = await startServer({ port })
  t.teardown(() => server.stop())
  await isDown(portal, 'WRONGPASS')
  t.match(outages(portal), [{ msg: /nothing listens/ }, { msg: /user and password/ }])
  t.equal(outages(portal).length, 2)
})
