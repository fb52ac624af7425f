import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { FastifyRequest } from 'fastify'
import { Registry } from 'prom-client'
import { t as tap, test, type Test } from 'tap'
import { freePort, startServer } from '../example/redis.js'
import { SALES } from '../example/tooljet/seed.js'
import { ToolJetStandIn, type ToolJetOptions } from '../example/tooljet/server.js'
import { errorCodes, type TooljetEmbedOptions, type TooljetTarget } from '../plugin/index.js'
import { Child } from './support/child.js'
import { ANA, API_TOKEN, BEN, CLEO, JWT_SECRET, Portal, releaseRedisAfter, type Reply } from './support/portal.js'
import type { CacheField } from './support/redis.js'
import { stopwatch } from './support/stopwatch.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

type TenantName = 'acme' | 'globex'

/** Portals for two customers, each with a ToolJet of its own; users, apps and even the API token are the same. */
interface Tenants {
  portals: Portal[]
  portal: Portal
  toolJets: Record<TenantName, ToolJetStandIn>
  targets: Record<string, TooljetTarget>
  /** Asks as a user of this customer. */
  ask: (tenant: string, email?: string, body?: object, portal?: Portal) => Promise<Reply>
  askByDecorator: (tenant: string, email?: string) => Promise<Reply>
}

interface Setup {
  count?: number
  options?: Partial<TooljetEmbedOptions>
  toolJet?: Partial<Record<TenantName, Partial<ToolJetOptions>>>
  redisUrl?: string
}

const tenantOf = ({ headers }: FastifyRequest) => String(headers['x-tenant'])

async function openTenants (t: Test, { count = 1, options = {}, toolJet = {}, redisUrl }: Setup = {}): Promise<Tenants> {
  const standIn = async (name: TenantName) => {
    const started = await new ToolJetStandIn({ apiToken: API_TOKEN, ...toolJet[name] }).listen()
    t.teardown(() => started.close())
    return started
  }
  const toolJets = { acme: await standIn('acme'), globex: await standIn('globex') }
  const targets: Tenants['targets'] = Object.fromEntries(Object.entries(toolJets).map(([name, { url }]) => [name, { url, apiToken: API_TOKEN }]))
  const portals = await Portal.openSeveral(t, count, {
    options: { tooljet: async (request) => targets[tenantOf(request)], encryptionKey: 'encryption-key-of-the-tests', ...options },
    ...(redisUrl !== undefined && { redisUrl }),
  })
  const portal = portals[0]!
  const ask: Tenants['ask'] = (tenant, email = ANA, body = { appId: SALES.id }, by = portal) => by.ask(email, body, { 'x-tenant': tenant })
  const askByDecorator: Tenants['askByDecorator'] = async (tenant, email = ANA) => {
    const reply = await portal.app.inject({ url: '/by-decorator', query: { appId: SALES.id }, headers: { ...portal.bearer(email), 'x-tenant': tenant } })
    return { status: reply.statusCode, headers: reply.headers, body: reply.json() }
  }
  return { portals, portal, toolJets, targets, ask, askByDecorator }
}

test('of several pauses the longest is told, whoever was paused last and whatever else fails', async (t) => {
  const registry = new Registry()
  const pause = (seconds: number) => () => ({ reply: { status: 429, headers: { 'retry-after': String(seconds) } } })
  const { portal, toolJets, targets, ask } = await openTenants(t, { options: { metrics: { registry } } })
  targets['broken'] = { ...targets['acme']!, apiToken: 'another' }
  const told = async () => Number(/^tooljet_embed_tooljet_pause_seconds (.*)$/m.exec(await registry.metrics())![1])
  toolJets.globex.faults = pause(5)
  await ask('broken')
  toolJets.acme.faults = pause(600)
  await ask('acme')
  await ask('globex')
  t.ok(await told() > 500)
  t.match(await portal.app.tooljetEmbed.health(), { tooljet: { state: 'failing' } })
})

test('many ToolJets take little memory', async (t) => {
  const { portal, targets, ask } = await openTenants(t, { options: { authorize: () => false } })
  await ask('acme')
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const heldBytes = (): number => {
    collect()
    const { heapUsed, external } = process.memoryUsage()
    return heapUsed + external
  }
  const before = heldBytes()
  for (let i = 0; i < 300; i++) {
    targets[`t${i}`] = { url: `http://127.0.0.1:9/${i}`, apiToken: API_TOKEN }
    await ask(`t${i}`)
  }
  portal.forgetLog()
  const after = heldBytes()
  t.equal((await portal.app.tooljetEmbed.health()).tooljets?.length, 301)
  const each = (after - before) / 300 / 1024
  t.ok(each < 60, `${each} KB for each`)
})

const errorsOf = ({ logLines }: Portal) => logLines.filter(({ level }) => Number(level) >= 50)

test('two customers with the same user and app: never mixed, over three instances', async (t) => {
  const { portals, portal, toolJets, targets, ask, askByDecorator } = await openTenants(t, { count: 3, options: { rateLimit: false } })
  const names = ['acme', 'globex'] as const
  const storm = await Promise.all(Array.from({ length: 60 }, async (_, i) => {
    const name = names[i % 2]!
    return { name, reply: await ask(name, ANA, { appId: SALES.id }, portals[i % 3]) }
  }))
  for (const { name, reply } of storm) {
    t.equal(reply.status, 200)
    t.match(toolJets[name].tokenOf(reply.body.redirectUrl), { email: ANA, appId: SALES.id })
    t.equal(new URL(reply.body.redirectUrl).origin, toolJets[name].url)
  }
  const idsOf = (name: TenantName) => [...new Set(storm.filter((one) => one.name === name).map(({ reply }) => reply.body.urlId))]
  const [acme, globex] = [idsOf('acme'), idsOf('globex')]
  t.same([acme.length, globex.length], [1, 1])
  t.same([toolJets.acme.calls.length, toolJets.globex.calls.length], [1, 1], 'each mints once')
  t.equal((await portal.cached('url')).length, 2)
  t.match(await askByDecorator('globex'), { status: 200, body: { urlId: globex[0], source: 'reused' } })

  const replaced = await ask('acme', ANA, { appId: SALES.id, replaces: acme[0] })
  t.equal(replaced.body.source, 'minted')
  t.match(await ask('globex', ANA, { appId: SALES.id, replaces: acme[0] }), { body: { urlId: globex[0], source: 'reused' } }, 'an id of the other one means nothing here')

  t.equal(await portal.app.tooljetEmbed.forget({ email: ANA, tooljet: targets['acme']! }), 1)
  t.match(await ask('globex', ANA, undefined, portals[1]), { body: { urlId: globex[0], source: 'reused' } })
  t.equal((await ask('acme', ANA, undefined, portals[2])).body.source, 'minted')
  t.same([toolJets.acme.calls.length, toolJets.globex.calls.length], [3, 1])

  const events = await portal.audit()
  t.equal(events.length, 66)
  for (const { event, tooljet, url_id: urlId } of events) {
    if (event === 'url.forgotten') t.equal(tooljet, toolJets.acme.url)
    else t.equal(tooljet, globex.includes(urlId!) ? toolJets.globex.url : toolJets.acme.url)
  }
  t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true, events: 69 }, 'and the tenant is part of what is authenticated')
  t.same(portal.app.tooljetEmbed.origins, [], 'there are none before a request')
})

test('a value that is copied to the other customer\'s key cannot be decrypted', async (t) => {
  const { portals: [portal, fresh], toolJets, ask } = await openTenants(t, { count: 2 }) as Tenants & { portals: [Portal, Portal] }
  await ask('acme')
  await ask('globex')
  const [one, other] = await portal.cached('url') as [CacheField, CacheField]
  await portal.redis.hset(one.key, one.field, other.value)
  await portal.redis.hset(other.key, other.field, one.value)
  for (const name of ['acme', 'globex'] as const) {
    const { body } = await ask(name, ANA, undefined, fresh) // the other one knows what it has minted
    t.equal(body.source, 'minted')
    t.equal(new URL(body.redirectUrl).origin, toolJets[name].url)
  }
})

test('who has another token for the same ToolJet is not given what is cached', async (t) => {
  const { portal, targets, ask } = await openTenants(t)
  await ask('acme')
  targets['mallory'] = { url: targets['acme']!.url, apiToken: 'a-token-that-is-wrong' }
  t.match(await ask('mallory'), { status: 502, body: { code: 'TOOLJET_EMBED_MISCONFIGURED' } })
  t.equal((await ask('acme')).body.source, 'reused')
  t.ok(errorsOf(portal).some(({ tooljet, remedy }) => tooljet === targets['acme']!.url && /apiToken/.test(String(remedy))), 'the log names the ToolJet')
})

test('one is paused by its 429, on every instance; the other goes on', async (t) => {
  const { portals, portal, toolJets, ask } = await openTenants(t, { count: 2 })
  toolJets.acme.faults = () => ({ reply: { status: 429, headers: { 'retry-after': '30' } } })
  t.equal((await ask('acme')).body.code, 'TOOLJET_EMBED_BUSY')
  for (const by of portals) {
    t.match(await ask('acme', BEN, undefined, by), { status: 429, body: { code: 'TOOLJET_EMBED_BUSY' } })
    t.equal((await ask('globex', BEN, undefined, by)).status, 200)
  }
  t.equal((await ask('globex', ANA)).body.source, 'minted', 'the same user, too')
  t.equal(toolJets.acme.calls.length, 1, 'a pause is kept')
  const health = await portal.app.tooljetEmbed.health()
  t.match(health.tooljet, { state: 'paused', pausedFor: /^(?:29|30)$/ }, 'in short: the one that is worst off')
  t.same(health.tooljets?.map(({ url, state }) => [url, state]).sort(), [[toolJets.acme.url, 'paused'], [toolJets.globex.url, 'ok']].sort())
})

test('an outage of one, and its breaker, are nothing to the other', async (t) => {
  const { portals, portal, toolJets, targets, ask } = await openTenants(t, { count: 2, options: { rateLimit: false } })
  toolJets.acme.faults = () => ({ reply: { status: 500 } })
  const other = (i: number) => ask('globex', ANA, { appSlug: `app-${i}` }, portals[i % 2])
  for (let i = 0; i < 5; i++) {
    t.equal((await ask('acme', ANA, { appSlug: `app-${i}` })).body.code, 'TOOLJET_EMBED_UNAVAILABLE')
    t.equal((await other(i)).body.code, 'TOOLJET_EMBED_APP_NOT_FOUND')
  }
  const storm = await Promise.all(Array.from({ length: 20 }, (_, i) => ask('acme', BEN, { appSlug: `app-${i}` }, portals[i % 2])))
  t.ok(storm.every(({ body }) => body.code === 'TOOLJET_EMBED_UNAVAILABLE'))
  t.ok(toolJets.acme.calls.length <= 6, `${toolJets.acme.calls.length} calls`)
  for (let i = 5; i < 15; i++) t.equal((await other(i)).body.code, 'TOOLJET_EMBED_APP_NOT_FOUND')
  t.equal(toolJets.globex.calls.length, 15)
  const { tooljet, tooljets } = await portal.app.tooljetEmbed.health()
  t.match(tooljet, { state: 'failing', code: 'TOOLJET_EMBED_UNAVAILABLE', url: undefined })
  t.same(tooljets?.map(({ state }) => state).sort(), ['failing', 'ok'])
  t.same(errorsOf(portal).map(({ tooljet }) => tooljet), [targets['acme']!.url])

  toolJets.acme.faults = undefined
  await until('a probe gets through', async () => (await ask('acme')).status === 200)
})

test('denials are remembered for one of them', async (t) => {
  const { toolJets, ask } = await openTenants(t, { toolJet: { acme: { seed: { users: [], apps: [SALES] } } } })
  for (let i = 0; i < 3; i++) {
    t.equal((await ask('acme')).body.code, 'TOOLJET_EMBED_USER_NOT_FOUND')
    t.equal((await ask('globex')).status, 200)
  }
  t.same([toolJets.acme.calls.length, toolJets.globex.calls.length], [1, 1])
})

test('limits count for each customer by itself', async (t) => {
  const { ask } = await openTenants(t, { options: { rateLimit: { max: 3, mints: 1 } } })
  t.match(await ask('acme'), { status: 200, headers: { 'x-ratelimit-remaining': 2 } })
  t.match(await ask('acme', ANA, { appSlug: 'other' }), { status: 429, body: { code: 'TOOLJET_EMBED_RATE_LIMITED' } }, 'a second mint')
  t.match(await ask('globex'), { status: 200, headers: { 'x-ratelimit-remaining': 2 } })
  t.equal((await ask('acme')).status, 200)
  t.equal((await ask('acme')).status, 429)
  t.equal((await ask('globex')).status, 200)
})

test('while Redis is away this instance\'s memory does not mix them either', async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const { portal, toolJets, ask } = await openTenants(t, { options: { redisTimeoutMs: 800 }, redisUrl: server.url })
  const minted = { acme: await ask('acme'), globex: await ask('globex') }
  server.process.kill('SIGSTOP')
  t.teardown(() => { server.process.kill('SIGCONT') })
  for (const name of ['acme', 'globex'] as const) {
    t.match(await ask(name), { status: 200, body: { source: 'reused', urlId: minted[name].body.urlId } })
    const { body } = await ask(name, BEN)
    t.equal(body.source, 'minted')
    t.match(toolJets[name].tokenOf(body.redirectUrl), { email: BEN })
  }
  toolJets.acme.faults = () => ({ reply: { status: 429, headers: { 'retry-after': '30' } } })
  const other = { appId: '11111111-2222-4333-8444-555555555555' }
  for (let i = 0; i < 2; i++) t.equal((await ask('acme', ANA, other)).body.code, 'TOOLJET_EMBED_BUSY')
  t.equal((await ask('globex', ANA, other)).body.code, 'TOOLJET_EMBED_APP_NOT_FOUND')
  t.equal(toolJets.acme.calls.length, 3)
  t.equal((await portal.app.tooljetEmbed.health()).redis.state, 'down')
})

/** A ToolJet under each path: `answer` decides when. */
async function manyToolJets (t: Test, answer: (path: string) => Promise<void> | void): Promise<{ url: string, sockets: () => number, calls: string[] }> {
  const calls: string[] = []
  const server: Server = createServer({ keepAliveTimeout: 120_000 }, (request, reply) => {
    const path = request.url!.split('/api/')[0]!
    calls.push(path)
    request.resume().on('end', () => {
      const send = () => {
        reply.writeHead(201, { 'content-type': 'application/json' }).end(JSON.stringify({ redirectUrl: `${url}${path}/embed-apps/${SALES.id}?personal-access-token=pat_1` }))
      }
      Promise.resolve(answer(path)).then(send, send)
    })
  })
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => { server.closeAllConnections(); server.close() })
  let open = 0
  server.on('connection', (socket) => { open++; socket.on('close', () => open--) })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { url, sockets: () => open, calls }
}

test('calls that hang at one do not take the connections of another, not even at the same host', async (t) => {
  const { url, calls } = await manyToolJets(t, (path) => (path === '/slow' ? new Promise(() => {}) : undefined))
  const { ask, targets } = await openTenants(t, { options: { rateLimit: false } })
  targets['slow'] = { url: `${url}/slow`, apiToken: 'x', timeoutMs: 1500, mintLimit: false }
  targets['quick'] = { url: `${url}/quick`, apiToken: 'x', timeoutMs: 1500 }
  const hanging = Array.from({ length: 20 }, (_, i) => ask('slow', ANA, { appSlug: `app-${i}` }))
  await until('all connections of the slow one hang', () => calls.length === 16)
  t.match(await ask('quick'), { status: 200, body: { redirectUrl: new RegExp(`^${url}/quick/`) } })
  t.equal(calls.at(-1), '/quick')
  t.ok((await Promise.all(hanging)).every(({ body }) => body.code === 'TOOLJET_EMBED_TIMEOUT'))
})

test('connections are kept to 100 ToolJets; one that has to leave brings its call to its end', async (t) => {
  let letGo!: () => void
  const slow = new Promise<void>((resolve) => { letGo = resolve })
  const { url, sockets, calls } = await manyToolJets(t, (path) => (path === '/0' ? slow : undefined))
  const { ask, targets } = await openTenants(t, { options: { rateLimit: false } })
  for (let i = 0; i <= 120; i++) targets[`t${i}`] = { url: `${url}/${i}`, apiToken: 'x' }
  const first = ask('t0')
  await until('its call is under way', () => calls.length === 1)
  for (let i = 1; i <= 100; i++) t.equal((await ask(`t${i}`)).status, 200)
  t.equal(sockets(), 101, 'the first has left, and still has its connection')
  letGo()
  t.match(await first, { status: 200, body: { source: 'minted', redirectUrl: new RegExp(`^${url}/0/`) } })
  await until('its connection is closed then', () => sockets() === 100)
  for (let i = 101; i <= 120; i++) await ask(`t${i}`)
  await until('those that left are closed', () => sockets() === 100)
  t.equal((await ask('t0', BEN)).body.source, 'minted', 'one that had left is called again')
  t.equal((await ask('t0')).body.source, 'reused', 'and what it minted is still there')
})

test('an app that closes breaks off the call of one that had to leave, too', async (t) => {
  const { url, sockets, calls } = await manyToolJets(t, (path) => (path === '/0' ? new Promise(() => {}) : undefined))
  const { portal, ask, targets } = await openTenants(t, { options: { rateLimit: false } })
  for (let i = 0; i <= 100; i++) targets[`t${i}`] = { url: `${url}/${i}`, apiToken: 'x', timeoutMs: 60_000 }
  const first = ask('t0')
  await until('its call is under way', () => calls.length === 1)
  for (let i = 1; i <= 100; i++) await ask(`t${i}`)
  portal.forgetLog()
  await portal.app.close()
  t.equal((await first).body.code, 'TOOLJET_EMBED_UNAVAILABLE')
  await until('nothing is connected', () => sockets() === 0)
  t.same(errorsOf(portal).filter(({ msg }) => /ToolJet/.test(String(msg))), [], 'which is no trouble of ToolJet\'s')
})

test('1,000 ToolJets are kept in mind', async (t) => {
  const { portal, targets, ask } = await openTenants(t)
  const at = (i: number) => ({ ...targets['acme']!, timeoutMs: 1000 + i })
  for (let i = 0; i <= 1000; i++) await portal.app.tooljetEmbed.forget({ email: ANA, tooljet: at(i) })
  t.equal((await portal.app.tooljetEmbed.health()).tooljets?.length, 1000)
  targets['first'] = at(0)
  t.equal((await ask('first')).status, 200, 'one that has left comes again')
  t.equal((await portal.app.tooljetEmbed.health()).tooljets?.length, 1000)
})

test('no tenant: refused, counted and audited', async (t) => {
  const { portal, targets, toolJets, ask, askByDecorator } = await openTenants(t, { options: { rateLimit: { max: 5 } } })
  const refused = { status: 403, body: { statusCode: 403, code: 'TOOLJET_EMBED_TENANT_UNKNOWN', error: 'Forbidden', message: 'There is no ToolJet for this request.' } }
  t.match(await ask('nobody'), { ...refused, headers: { 'x-ratelimit-limit': 5, 'x-ratelimit-remaining': 4 } })
  t.match(await askByDecorator('nobody'), refused)
  targets['gone'] = null as never
  t.match(await ask('gone'), refused)
  t.match(await ask('nobody', ANA, { appId: 7 }), refused, 'a malformed body makes no difference')
  t.match(await ask('nobody', ANA, { appId: SALES.id, email: BEN }), refused)
  t.match(await ask('nobody'), { status: 429, body: { code: 'TOOLJET_EMBED_RATE_LIMITED' } }, 'nobody fills the audit log like this')
  t.equal((await ask('nobody', BEN)).status, 403)
  t.equal((await ask('acme')).status, 200, 'a customer\'s own count is another one')
  t.equal(toolJets.acme.calls.length, 1)
  const [first, ...rest] = await portal.audit()
  t.match(first, { event: 'url.denied', outcome: 'failure', code: 'TOOLJET_EMBED_TENANT_UNKNOWN', email: ANA, app: SALES.id, tooljet: undefined })
  t.equal(rest.length, 7)
  t.same(errorsOf(portal), [], 'nothing for the operator to mend')
})

test('a wrong target: the log says what is wrong, the answer does not', async (t) => {
  const { portal, targets, ask, askByDecorator } = await openTenants(t)
  const wrong: [target: unknown, says: RegExp, host?: string][] = [
    [{ url: 'https://a.example', apiToken: 'hunter2\n' }, /"tooljet\.apiToken" is a string \(not shown\)/, 'a.example'],
    [{ url: 'https://u:hunter2@b.example:8443', apiToken: 'x' }, /"tooljet\.url" is something else \(not shown\)/, 'b.example:8443'],
    [{ url: 'hunter2', apiToken: 'hunter2' }, /"tooljet\.url"/],
    [{ url: 'https://a.example', token: 'hunter2' }, /"tooljet\.apiToken" is missing/, 'a.example'],
    [{ url: 'https://a.example', apiToken: 'hunter2', timeoutMS: 5 }, /unknown option "tooljet\.timeoutMS"/, 'a.example'],
    [{ url: 'https://a.example', apiToken: 'hunter2', embedOrigins: ['a'] }, /"tooljet\.embedOrigins\.0"/, 'a.example'],
    ['hunter2', /"tooljet" is a string \(not shown\), expected an object with url and apiToken\./],
    [false, /"tooljet" is a boolean \(not shown\)/],
  ]
  for (const [target, says, host] of wrong) {
    targets['wrong'] = target as TooljetTarget
    portal.forgetLog()
    const reply = await ask('wrong')
    t.match(reply, { status: 502, body: { code: 'TOOLJET_EMBED_MISCONFIGURED' } })
    t.notMatch(reply.body.message, /option|url|apiToken/i)
    t.equal((await askByDecorator('wrong')).status, 502)
    const lines = errorsOf(portal).filter(({ msg }) => /invalid tooljet target/.test(String(msg)))
    t.equal(lines.length, 1, 'said once')
    t.match(lines[0], { err: { message: says }, host, reqId: /^req-/ })
    t.notMatch(portal.logText, /hunter2/)
    await t.rejects(portal.app.tooljetEmbed.forget({ email: ANA, tooljet: target as TooljetTarget }), {
      code: 'TOOLJET_EMBED_BAD_REQUEST', message: /"tooljet"/, cause: { message: says },
    })
  }
  t.notMatch(await portal.dumpRedis(), /hunter2/)
  t.match((await portal.audit())[0], { event: 'url.failed', code: 'TOOLJET_EMBED_MISCONFIGURED', tooljet: undefined })
  t.equal((await ask('acme')).status, 200)
})

test('the function is asked once for each ask, and what it throws is the host\'s', async (t) => {
  let asked = 0
  let error: Error | undefined
  const { portal, targets, ask, askByDecorator } = await openTenants(t, {
    options: {
      tooljet: (request) => { // one that is not async
        asked++
        if (error !== undefined) throw error
        return targets[tenantOf(request)]
      },
    },
  })
  t.equal((await ask('acme')).status, 200)
  t.equal((await askByDecorator('acme')).status, 200)
  t.equal((await ask('acme', ANA, { appId: 7 })).status, 400)
  t.equal(asked, 3)

  error = Object.assign(new Error('the tenants\' database is away'), { statusCode: 503, code: 'DB_AWAY' })
  for (const reply of [await ask('acme'), await askByDecorator('acme')]) {
    t.match(reply, { status: 503, body: { code: 'DB_AWAY', message: 'the tenants\' database is away' } })
  }
  error = Object.assign(new Error('this customer has gone'), { statusCode: 410 })
  t.equal((await ask('acme')).status, 410)
  error = Object.assign(new Error('sign in again'), { statusCode: 401 })
  t.equal((await ask('acme')).status, 401)
  t.equal(asked, 7)
  const events = (await portal.audit()).slice(3)
  t.match(events, [{ event: 'url.failed', code: 'DB_AWAY', email: ANA }, { event: 'url.failed', code: 'DB_AWAY' }, { event: 'url.denied', code: 'HTTP_410' }])
  t.equal(events.length, 3, 'a 401 is the host\'s to log')
  t.same(errorsOf(portal).filter(({ msg }) => /tooljet-embed/.test(String(msg))), [])
})

test('forget needs to know the ToolJet where there are several, and only there', async (t) => {
  const { portal } = await openTenants(t)
  await t.rejects(portal.app.tooljetEmbed.forget({ email: ANA }), errorCodes.TOOLJET_EMBED_BAD_REQUEST)
  const single = await Portal.open(t)
  const tooljet = { url: single.toolJet.url, apiToken: API_TOKEN }
  await t.rejects(single.app.tooljetEmbed.forget({ email: ANA, tooljet }), { code: 'TOOLJET_EMBED_BAD_REQUEST', message: /only where option "tooljet" is a function/ })
})

test('each has its own timeoutMs and embedOrigins', async (t) => {
  const { toolJets, targets, ask } = await openTenants(t)
  targets['acme'] = { ...targets['acme']!, timeoutMs: 200 }
  targets['globex'] = { ...targets['globex']!, embedOrigins: ['https://apps.globex.test'] }
  toolJets.acme.faults = () => ({ hang: true })
  const waited = stopwatch()
  t.equal((await ask('acme')).body.code, 'TOOLJET_EMBED_TIMEOUT')
  t.ok(waited() < 2000)
  t.equal((await ask('globex')).body.code, 'TOOLJET_EMBED_BAD_REPLY')
  const redirectUrl = `https://apps.globex.test/embed-apps/${SALES.id}?personal-access-token=pat_1`
  toolJets.globex.faults = () => ({ reply: { status: 201, body: { redirectUrl } } })
  t.equal((await ask('globex')).body.redirectUrl, redirectUrl)
  toolJets.acme.faults = toolJets.globex.faults
  t.equal((await ask('acme')).body.code, 'TOOLJET_EMBED_BAD_REPLY', 'an origin of the other one is a foreign one')
})

test('each has its own checkAccess, which may be changed', async (t) => {
  const { toolJets, targets, ask } = await openTenants(t, { toolJet: { acme: { access: 'session' }, globex: { access: 'session' } } })
  targets['acme'] = { ...targets['acme']!, checkAccess: true }
  t.match(await ask('acme', CLEO), { status: 403, body: { code: 'TOOLJET_EMBED_ACCESS_DENIED' } })
  t.equal((await ask('globex', CLEO)).status, 200)
  t.equal(toolJets.globex.sessionCalls.length, 0)
  targets['globex'] = { ...targets['globex']!, checkAccess: true }
  t.equal((await ask('globex', ANA)).status, 200)
  t.equal(toolJets.globex.sessionCalls.length, 1)
})

test('with a single ToolJet the names of keys are fixed, and events, log lines and health name no ToolJet', async (t) => {
  const portal = await Portal.open(t, { options: { keyPrefix: 'test-of-names:', tooljet: { url: 'http://tooljet.invalid', apiToken: API_TOKEN } } })
  const keysNow = async () => [...await portal.redis.keys('test-of-names:*'), ...await portal.redis.keys('{test-of-names:*')]
  t.equal((await portal.ask(ANA)).body.code, 'TOOLJET_EMBED_UNAVAILABLE')
  const { tooljetEmbed } = portal.app
  await until('the audit backlog is written', async () => (await tooljetEmbed.health()).audit.backlog === 0)
  const keys = (await keysNow()).filter((key) => !/audit|:probe$/.test(key)).sort() // the probe's lives for a second
  t.same(keys, [
    '{test-of-names:EE5JRXOzGnSgJ-LsXgiVns}:limit:mints',
    '{test-of-names:EE5JRXOzGnSgJ-LsXgiVns}:limit:requests',
    '{test-of-names:EE5JRXOzGnSgJ-LsXgiVns}:urls',
    ...['budget', 'calls', 'failures', 'instances', 'unminted'].map((name) => `{test-of-names:tooljet:sivFEv8HaVEMzPhlj0jtXn}:${name}`),
  ])
  t.same(Object.keys(await tooljetEmbed.health()).sort(), ['audit', 'redis', 'tooljet'])
  t.same(portal.logLines.filter((line) => 'tooljet' in line), [])
  t.notMatch(JSON.stringify(await portal.redis.xrange('test-of-names:audit', '-', '+')), /"tooljet"/)
  await portal.app.close()
  for (const key of await keysNow()) await portal.redis.del(key)
})

test('docs/tenants.md shows example/tenants.ts, which runs', async (t) => {
  const file = (name: string) => readFileSync(new URL(`../${name}`, import.meta.url), 'utf8')
  const [, shown] = /^```ts\n([^]*?)^```$/m.exec(file('docs/tenants.md'))!
  t.equal(shown, file('example/tenants.ts'))

  const server = await startServer()
  t.teardown(() => server.stop())
  const { toolJets, targets, portal: { app: signer } } = await openTenants(t)
  const port = await freePort()
  const child = Child.start(t, ['--import', 'tsx', 'example/tenants.ts'], {
    PORT: String(port), TENANTS: JSON.stringify(targets), ENCRYPTION_KEY: 'encryption-key-of-the-tests', REDIS_URL: server.url, JWT_SECRET,
  })
  await child.prints('Server listening')
  const visit = async (path: string, tenant: string, body?: object) => fetch(`http://localhost:${port}${path}`, {
    headers: { authorization: `Bearer ${signer.jwt.sign({ email: ANA, tenant })}`, ...(body && { 'content-type': 'application/json' }) },
    ...(body && { method: 'POST', body: JSON.stringify(body) }),
  })
  for (const name of ['acme', 'globex'] as const) {
    const reply = await visit('/api/get-tooljet-url', name, { appSlug: 'sales' })
    const { redirectUrl } = await reply.json() as { redirectUrl: string }
    t.match(toolJets[name].tokenOf(redirectUrl), { email: ANA, appId: SALES.id })
    t.equal((await visit('/dashboard', name)).headers.get('content-security-policy'), `default-src 'self'; frame-src ${toolJets[name].url}`)
  }
  t.equal((await visit('/dashboard', 'nobody')).headers.get('content-security-policy'), "default-src 'self'; frame-src 'none'")
  t.match(await (await visit('/api/get-tooljet-url', 'nobody', { appSlug: 'sales' })).json(), { code: 'TOOLJET_EMBED_TENANT_UNKNOWN' })
})
