import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { t as tap, test, type Test } from 'tap'
import { freePort, startServer } from '../example/redis.js'
import type { ToolJetOptions } from '../example/tooljet/server.js'
import { connect } from '../plugin/redis/connect.js'
import { CERT, KEY } from './support/certificate.js'
import { startCluster, startSentinels } from './support/cluster.js'
import { ANA, BEN, Portal, releaseRedisAfter, SALES } from './support/portal.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

const USERS = Array.from({ length: 40 }, (_, i) => `user${i}@acme.test`)
const toolJet: Partial<ToolJetOptions> = { seed: { apps: [SALES], users: USERS.map((email) => ({ email, apps: [SALES.slug] })) } }

test('Redis Cluster: users all over its slots are served as by one Redis', { timeout: 60_000 }, async (t) => {
  const cluster = await startCluster(t)
  for (const enableAutoPipelining of [false, true]) {
    const [one, other] = await Portal.openSeveral(t, 2, { redis: cluster.connect({ enableAutoPipelining }), toolJet }) as [Portal, Portal]
    const replies = await Promise.all(USERS.flatMap((user) => [one.ask(user), other.ask(user)]))
    t.ok(replies.every(({ status }) => status === 200))
    t.equal(one.toolJet.calls.length, USERS.length)
    const [first] = USERS as [string]
    const { body: dead } = await one.ask(first)
    const { body: healed } = await other.ask(first, { appId: SALES.id, replaces: dead.urlId })
    t.equal(healed.source, 'minted')
    t.equal((await one.ask(first, { appSlug: SALES.slug })).body.urlId, healed.urlId)
    t.equal(await one.app.tooljetEmbed.forget({ email: first }), 1)
    t.equal((await one.audit()).length > 0 && (await other.audit()).length, 2 * USERS.length + 4)
    t.match(await one.app.tooljetEmbed.audit.verify(), { ok: true, instances: [{}, {}] })
  }
})

test('Redis Cluster: a client with a keyPrefix of its own is served, and nobody else sees an outage', { timeout: 60_000 }, async (t) => {
  const cluster = await startCluster(t)
  for (const keyPrefix of ['host:', '{host}:']) {
    const portal = await Portal.open(t, { redis: cluster.connect({ keyPrefix }), toolJet, options: { onRedisDown: 'fail', rateLimit: { max: 3 } } })
    const [user, another] = USERS as [string, string]
    for (const source of ['minted', 'reused', 'reused']) t.equal((await portal.ask(user)).body.source, source)
    t.equal((await portal.ask(user)).body.code, 'TOOLJET_EMBED_RATE_LIMITED')
    t.equal((await portal.ask(another)).body.source, 'minted')
    t.equal(await portal.app.tooljetEmbed.forget({ email: user }), 1)
    t.equal((await portal.app.tooljetEmbed.health()).redis.state, 'up')
    const errors = portal.logLines.filter(({ level }) => Number(level) >= 50)
    if (keyPrefix === '{host}:') {
      t.equal((await portal.audit()).length, 6)
      t.same(errors, [])
    } else t.match(errors, [{ msg: /Redis refuses a command/, err: { message: /CROSSSLOT/ } }], 'the audit log is in several slots then, and that is said')
  }
})

test('Redis Cluster: slots that move are followed', { timeout: 60_000 }, async (t) => {
  const cluster = await startCluster(t)
  const client = cluster.connect()
  const portal = await Portal.open(t, { redis: client, toolJet, options: { rateLimit: false } })
  const urlIds = await Promise.all(USERS.map(async (user) => (await portal.ask(user)).body.urlId))
  await cluster.moveSlots(0, 1)
  const again = await Promise.all(USERS.map(async (user) => (await portal.ask(user)).body.urlId))
  t.same(again, urlIds, 'no URL is lost')
  t.equal(portal.toolJet.calls.length, USERS.length)
})

test('Redis Cluster: with a master gone its users are served all the same, and the others not disturbed', { timeout: 60_000 }, async (t) => {
  const cluster = await startCluster(t)
  const portal = await Portal.open(t, { redis: cluster.connect(), toolJet, options: { redisTimeoutMs: 800, rateLimit: false } })
  await Promise.all(USERS.map((user) => portal.ask(user)))
  await cluster.servers[2]!.stop()
  const replies = await Promise.all(USERS.map((user) => portal.ask(user)))
  t.ok(replies.every(({ status, body }) => status === 200 && body.source === 'reused'))
  t.equal(portal.toolJet.calls.length, USERS.length)
})

test('Sentinel: after a failover the replica goes on where the master ended', { timeout: 60_000 }, async (t) => {
  const { master, replica, connect } = await startSentinels(t)
  const portal = await Portal.open(t, { redis: connect(), options: { redisTimeoutMs: 800 } })
  const { body: first } = await portal.ask(ANA)
  await portal.audit()
  await until('the replica has it', async () => (await portal.redis.call('WAIT', '1', '100')) === 1)
  await master.stop()
  t.match((await portal.ask(ANA)).body, { urlId: first.urlId }, 'meanwhile from memory')
  t.equal((await portal.ask(BEN)).status, 200)
  await until('the failover is done', async () => {
    const { redis } = await portal.app.tooljetEmbed.health()
    return redis.state === 'up' && portal.redis.options.port !== master.port
  }, 30_000)
  t.match((await portal.ask(ANA)).body, { source: 'reused', urlId: first.urlId })
  const events = await portal.audit()
  t.equal(events.length, 4)
  t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true, instances: [{ firstSeq: 1, lastSeq: 5 }] })
  t.ok(replica)
})

/** A Redis with TLS and a certificate that nobody knows. @returns its port */
async function startTls (t: Test): Promise<number | undefined> {
  const folder = t.testdir({ key: KEY, cert: CERT })
  const port = await freePort()
  const server = await startServer({
    args: ['--tls-port', String(port), '--tls-cert-file', `${folder}/cert`, '--tls-key-file', `${folder}/key`, '--tls-ca-cert-file', `${folder}/cert`, '--tls-auth-clients', 'no'],
  }).catch(() => undefined)
  if (server !== undefined) t.teardown(() => server.stop())
  return server && port
}

test('TLS: a client that trusts the certificate reaches Redis, a URL that does not goes on without it', { timeout: 60_000 }, async (t) => {
  const port = await startTls(t)
  if (port === undefined) return t.pass('TLS', { skip: 'this Redis was built without it' })
  const trusting = await Portal.open(t, { redis: new Redis({ port, tls: { ca: CERT, servername: 'tooljet.test' } }) })
  t.equal((await trusting.ask(ANA)).body.source, 'minted')
  t.equal((await trusting.app.tooljetEmbed.health()).redis.state, 'up')
  t.equal((await trusting.audit()).length, 1, 'its event is written there')

  const wary = await Portal.open(t, { options: { redis: `rediss://localhost:${port}`, redisTimeoutMs: 300 } })
  t.equal((await wary.ask(ANA)).status, 200)
  t.equal((await wary.app.tooljetEmbed.health()).redis.state, 'down')
})

test('TLS: who closes in the middle of a handshake closes, and nothing else ends', { timeout: 60_000 }, async (t) => {
  const port = await startTls(t)
  if (port === undefined) return t.pass('TLS', { skip: 'this Redis was built without it' })
  for (let ms = 0; ms < 40; ms++) {
    const { redis, disconnect } = await connect(`rediss://localhost:${port}`)
    redis.ping().catch(() => {})
    await sleep(ms)
    disconnect()
  }
  await sleep(100) // nothing tells that a socket has no more to say
  t.pass('no error was thrown at the process')
})
