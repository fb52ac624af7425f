import type { Cluster, Redis } from 'ioredis'
import { Registry } from 'prom-client'
import { t as tap, test, type Test } from 'tap'
import { standingsOf, type Standing } from '../plugin/tooljet/standings.js'
import { startCluster } from './support/cluster.js'
import { ANA, API_TOKEN, BEN, newPrefix, Portal, releaseRedisAfter, SALES } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { digestOf, sharedRedisUrl } from './support/redis.js'
import { wayToRedis } from './support/way-to-redis.js'

releaseRedisAfter(tap)

/** Read every two seconds, whatever else is done. */
const FORGETS_READ = digestOf('cache/scripts/forgets-read.lua')

/** Commands that a client sends from now on. */
function commandsOf (client: Redis | Cluster): string[] {
  const sent: string[] = []
  const send = client.sendCommand.bind(client) as (...args: unknown[]) => unknown
  client.sendCommand = ((command: { name: string, args: unknown[] }, ...rest: unknown[]) => {
    if (command.args[0] !== FORGETS_READ) sent.push(command.name)
    return send(command, ...rest)
  }) as typeof client.sendCommand
  return sent
}

test('the health of 300 tenants is one question to Redis, also for a scrape of the metrics', { timeout: 60_000 }, async (t) => {
  const registry = new Registry()
  const client = newClient(await sharedRedisUrl())
  t.teardown(() => client.disconnect())
  const targets: Record<string, { url: string, apiToken: string }> = {}
  const portal = await Portal.open(t, {
    options: {
      redis: client, metrics: { registry }, tooljet: ({ headers }) => targets[String(headers['x-tenant'])], encryptionKey: 'encryption-key-of-the-tests', authorize: (_request, { email }) => email === BEN,
    },
  })
  const ask = (tenant: string, email = ANA) => portal.ask(email, { appId: SALES.id }, { 'x-tenant': tenant })
  for (let i = 0; i < 300; i++) targets[`t${i}`] = { url: `http://127.0.0.1:9/${i}`, apiToken: API_TOKEN }
  await Promise.all(Object.keys(targets).map((tenant) => ask(tenant)))
  targets['acme'] = { url: portal.toolJet.url, apiToken: API_TOKEN }
  portal.toolJet.faults = () => ({ reply: { status: 429, headers: { 'retry-after': '40' } } })
  await ask('acme', BEN)
  await portal.audit()

  const sent = commandsOf(client)
  const { tooljet, tooljets } = await portal.app.tooljetEmbed.health()
  t.same(sent, ['ping', 'evalsha'])
  t.match(tooljet, { state: 'paused', pausedFor: /^(?:39|40)$/ })
  t.equal(tooljets!.filter(({ state }) => state === 'paused').length, 1, 'each has its own')
  t.equal(tooljets!.length, 301)

  sent.length = 0
  t.match(await registry.metrics(), /^tooljet_embed_tooljet_pause_seconds (?:39|40)$/m)
  t.same(sent, ['ping', 'evalsha'], 'all gauges share one snapshot')
})

async function pausedKeys (t: Test, client: Redis | Cluster) {
  const prefix = newPrefix()
  const log = { info () {}, warn () {}, error (...told: unknown[]) { if (!/refuses a command/.test(String(told[1]))) t.fail(JSON.stringify(told)) } }
  const { breaker, scripts } = await wayToRedis(client, 5000, log as never)
  t.teardown(() => breaker.close())
  const keys = Array.from({ length: 30 }, (_, i) => `{${prefix}${i}}:pause`)
  await Promise.all(keys.map((key, i) => (i % 2 === 0 ? client.set(key, `call ${Date.now()} ${Date.now() + 30_000}`, 'PX', 30_000) : undefined)))
  return { breaker, scripts, keys: keys.map((pause) => ({ pause, queue: pause.replace('pause', 'queue'), budget: pause.replace('pause', 'budget') })) }
}

test('where keys are in many slots, the first 20 are asked about; a Cluster behind a proxy is no outage', { timeout: 60_000 }, async (t) => {
  const { connect } = await startCluster(t)
  const cluster = connect()
  const { scripts, keys } = await pausedKeys(t, cluster)
  const paused = (standings: Standing[]) => standings.map(({ pauseMs }) => (pauseMs > 0 ? 'x' : '.')).join('')
  t.equal(paused(await standingsOf(scripts, keys)), 'x.x.x.x.x.x.x.x.x.x...........')
  const hidden = new Proxy(cluster, { get: (target, name) => { const value: unknown = name === 'nodes' ? undefined : Reflect.get(target, name); return typeof value === 'function' ? value.bind(target) : value } })
  const behind = await pausedKeys(t, hidden)
  t.equal(paused(await standingsOf(behind.scripts, behind.keys)), 'x.x.x.x.x.x.x.x.x.x...........')
  t.notOk(behind.breaker.isOpen)
  t.same(await standingsOf(scripts, []), [])
})
