import { once } from 'node:events'
import { createServer, request as call } from 'node:http'
import type { AddressInfo } from 'node:net'
import fastifyHelmet from '@fastify/helmet'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { t as tap, test, type Test } from 'tap'
import { ToolJetStandIn } from '../../example/tooljet/server.js'
import tooljetEmbed, { type ClientModule, type TooljetEmbedOptions } from '../../plugin/index.js'
import { chromiumPath, closeBrowserAfter, visit, type Visit } from '../support/browser.js'
import { ANA, API_TOKEN, newPrefix, releaseRedisAfter, SALES } from '../support/portal.js'
import { newClient } from '../support/redis-client.js'
import { keysOf, sharedRedisUrl } from '../support/redis.js'

releaseRedisAfter(tap)
closeBrowserAfter(tap)

/* Where the plugin's own routes are: the host, a proxy and a request's parameters have a say in it. */

const skip = chromiumPath() === undefined && 'there is no chromium'

interface Host {
  app: FastifyInstance
  toolJet: ToolJetStandIn
  url: string
  client: ClientModule
  logText: () => string
}

interface Setup {
  fastify?: FastifyServerOptions
  /** Of scopes inside each other, of which the last has the plugin and a page. */
  prefixes?: string[]
  options?: Partial<TooljetEmbedOptions>
  /** What a proxy in front adds to every path. */
  base?: string
}

/** A host with the plugin and a page that knows of no endpoint. */
async function openHost (t: Test, { fastify = {}, prefixes = [], options = {}, base = '' }: Setup): Promise<Host> {
  const toolJet = await new ToolJetStandIn({ apiToken: API_TOKEN }).listen()
  const redis = await sharedRedisUrl()
  const keyPrefix = newPrefix()
  let logText = ''
  const app = Fastify({ forceCloseConnections: true, logger: { level: 'warn', stream: { write: (line: string) => { logText += line } } }, ...fastify })
  t.teardown(async () => {
    await app.close()
    await toolJet.close()
    const client = newClient(redis)
    await Promise.all((await keysOf(client, keyPrefix)).map((key) => client.del(key)))
    client.disconnect()
  })
  app.register(fastifyHelmet, {
    contentSecurityPolicy: { useDefaults: false, directives: { 'default-src': ["'self'"], 'frame-src': [toolJet.url] } },
    strictTransportSecurity: false,
  })
  app.get('/favicon.ico', (_request, reply) => reply.code(204).send())
  let client!: ClientModule
  const plugin = async (scope: FastifyInstance): Promise<void> => {
    await scope.register(tooljetEmbed, {
      tooljet: { url: toolJet.url, apiToken: API_TOKEN },
      redis,
      keyPrefix,
      apps: { sales: { appId: SALES.id } },
      encryptionKey: 'a key of sixteen characters',
      authenticate: async () => {},
      identity: () => ANA,
      ...options,
    })
    client = scope.tooljetEmbed.client!
    scope.get('/page', (request, reply) => {
      const { url, integrity } = client.for(request)
      return reply.type('text/html').send(`<!doctype html><title>Host</title><script type="module" src="${base}${url}" integrity="${integrity}" crossorigin></script><tooljet-embed app="sales"></tooljet-embed>`)
    })
  }
  const nested = prefixes.reduceRight((inner, prefix) => async (scope: FastifyInstance) => { scope.register(inner, { prefix }) }, plugin)
  app.register(nested)
  await app.listen({ port: 0, host: 'localhost' })
  return { app, toolJet, client, url: `http://localhost:${(app.server.address() as AddressInfo).port}`, logText: () => logText }
}

/** Opens a page, and tells which path it asks for a URL, once it has got one. */
async function askedBy (t: Test, { page, complaints }: Visit, origin: string, path: string): Promise<string> {
  const answered = page.waitForResponse((response) => response.request().method() === 'POST' && response.url().startsWith(origin))
  await page.goto(origin + path)
  const answer = await answered
  t.match(await answer.json(), { redirectUrl: /^http/ })
  t.same(complaints, [])
  return new URL(answer.url()).pathname
}

async function listen (t: Test, server: ReturnType<typeof createServer>): Promise<string> {
  server.listen(0, 'localhost')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://localhost:${(server.address() as AddressInfo).port}`
}

/** Hosts, a page of each, what its module asks, and where the module is. */
const CASES: [setup: Setup, page: string, asked: string, module: string][] = [
  [{ prefixes: ['/portal/'] }, '/portal/page', '/portal/api/get-tooljet-url', '/portal/tooljet-embed.js'],
  [{ prefixes: ['/a'], options: { prefix: '/own/' } as object }, '/a/page', '/a/own/api/get-tooljet-url', '/a/own/tooljet-embed.js'],
  [{ options: { client: { path: '/assets/js/embed.js' }, route: { path: '/api/v1/embed::url' } } }, '/page', '/api/v1/embed:url', '/assets/js/embed.js'],
  [{ prefixes: ['/t/:tenant'], options: { route: { path: '/' } }, fastify: { routerOptions: { ignoreTrailingSlash: true } } }, '/t/acme/page', '/t/acme/', '/t/acme/tooljet-embed.js'],
  [{ base: '/v1', fastify: { rewriteUrl: ({ url }) => url!.replace(/^\/v1/, '') } }, '/v1/page', '/v1/api/get-tooljet-url', '/tooljet-embed.js'],
  // those that a browser need not be asked about
  [{}, '/page', '/api/get-tooljet-url', '/tooljet-embed.js'],
  [{ prefixes: ['/portal'] }, '/portal/page', '/portal/api/get-tooljet-url', '/portal/tooljet-embed.js'],
  [{ prefixes: ['/'] }, '/page', '/api/get-tooljet-url', '/tooljet-embed.js'],
  [{ prefixes: ['/a/', '/b', 'c'] }, '/a/b/c/page', '/a/b/c/api/get-tooljet-url', '/a/b/c/tooljet-embed.js'],
  [{ prefixes: ['/api/v1/$docs'] }, '/api/v1/$docs/page', '/api/v1/$docs/api/get-tooljet-url', '/api/v1/$docs/tooljet-embed.js'],
  [{ prefixes: ['/portal'], options: { client: { path: '/é/x.js' }, route: { path: '/é' } } }, '/portal/page', '/portal/%C3%A9', '/portal/%C3%A9/x.js'],
  [{ prefixes: ['/portal'], options: { route: { path: '/' } } }, '/portal/page', '/portal/', '/portal/tooljet-embed.js'],
  [{ prefixes: ['/t/:tenant'], options: { route: { path: '/' } } }, '/t/acme/page', '/t/acme/', '/t/acme/tooljet-embed.js'],
  [{ prefixes: ['/portal/'], options: { client: { path: '/' } }, fastify: { routerOptions: { ignoreDuplicateSlashes: true } } }, '/portal/page', '/portal/api/get-tooljet-url', '/portal/'],
  [{ prefixes: ['/Portal'], fastify: { routerOptions: { caseSensitive: false } } }, '/PORTAL/page', '/Portal/api/get-tooljet-url', '/Portal/tooljet-embed.js'],
]

test('the module finds the route from where it is, and client says where that is, under every prefix', async (t) => {
  for (const [setup, page, asked, path] of CASES) {
    const { app, client } = await openHost(t, setup)
    const address = client.for({ params: { tenant: 'acme' } })
    t.equal(address.path, path)
    if (!setup.prefixes?.join('').includes(':')) t.same({ path: client.path, url: client.url }, { path, url: address.url })
    t.equal((await app.inject(page)).statusCode, 200)
    for (const url of [address.path, address.url]) t.match(await app.inject(url), { statusCode: 200, headers: { 'content-type': /^text\/javascript/ } }, url)
    const { payload } = await app.inject(address.url)
    const [, relative] = /import\.meta\.resolve\("([^"]+)"\)/.exec(payload)!
    const { pathname } = new URL(relative!, `http://localhost${setup.base ?? ''}${address.url}`)
    t.equal(pathname, asked)
    t.equal((await app.inject({ method: 'POST', url: pathname })).statusCode, 200, asked)
  }
})

test('a page in a browser asks the route', { skip }, async (t) => {
  const visitor = await visit(t, 'http://localhost')
  for (const [setup, page, asked] of CASES.slice(0, 5)) {
    const { url } = await openHost(t, setup)
    t.equal(await askedBy(t, visitor, url, page), asked)
  }
})

test('a proxy that strips a path, and one that serves the module from another folder of its own', { skip }, async (t) => {
  const { url } = await openHost(t, { base: '/apps/sales', prefixes: ['/portal'] })
  const proxy = createServer((request, response) => {
    const { method, headers } = request
    const onward = call(`${url}${request.url!.replace(/^\/apps\/sales/, '')}`, { method, headers }, (reply) => {
      response.writeHead(reply.statusCode!, reply.headers)
      reply.pipe(response)
    })
    request.pipe(onward.on('error', () => response.destroy()))
  })
  t.equal(await askedBy(t, await visit(t, url), await listen(t, proxy), '/apps/sales/portal/page'), '/apps/sales/portal/api/get-tooljet-url')
})

test('a prefix with a parameter: each tenant asks its own ToolJet, by one and the same module', { skip }, async (t) => {
  const other = await new ToolJetStandIn({ apiToken: API_TOKEN }).listen()
  t.teardown(() => other.close())
  const seen: unknown[] = []
  const { app, url, client, toolJet } = await openHost(t, {
    prefixes: ['/t/:tenant', '/:region(eu|us)'],
    options: {
      tooljet: ({ params }) => {
        seen.push(params)
        const { tenant } = params as { tenant: string }
        return tenant === 'acme' || tenant === 'a/b c' ? { url: toolJet.url, apiToken: API_TOKEN } : undefined
      },
    },
  })
  const visitor = await visit(t, url)
  t.equal(await askedBy(t, visitor, url, '/t/acme/eu/page'), '/t/acme/eu/api/get-tooljet-url')
  t.equal(await askedBy(t, visitor, url, '/t/a%2Fb%20c/us/page'), '/t/a%2Fb%20c/us/api/get-tooljet-url', 'a slash in a parameter is no folder')
  t.same(seen, [{ tenant: 'acme', region: 'eu' }, { tenant: 'a/b c', region: 'us' }])
  t.equal(other.calls.length, 0)

  const acme = client.for({ params: { tenant: 'acme', region: 'eu' } })
  const second = client.for({ params: { tenant: 'a/b c', region: 'us' } })
  t.same([acme.path, second.path], ['/t/acme/eu/tooljet-embed.js', '/t/a%2Fb%20c/us/tooljet-embed.js'])
  t.equal(acme.integrity, second.integrity)
  t.equal(new URL(acme.url, url).search, new URL(second.url, url).search)
  const [text, same] = await Promise.all([acme, second].map(async ({ url }) => (await app.inject(url)).payload))
  t.equal(text, same)
  t.notMatch(text, 'tenant')
  const wrong = { code: 'TOOLJET_EMBED_OPTIONS', message: /"\/t\/:tenant\/:region\(eu\|us\)\/tooljet-embed\.js", and "tenant" is not known: client\.for\(request\)/ }
  for (const read of [() => client.path, () => client.url, () => client.for({ params: {} }), () => client.for({ params: undefined })]) t.throws(read, wrong)
})

test('a module whose path lacks a parameter of the route is told, and its pages name an endpoint', { skip }, async (t) => {
  const { app, client, logText, url } = await openHost(t, { options: { route: { path: '/t/:tenant/embed' } } })
  t.match(logText(), /"client":"\/tooljet-embed\.js","route":"\/t\/:tenant\/embed","msg":"tooljet-embed: the path of the browser module lacks parameters/)
  t.match((await app.inject(client.path)).payload, '"/api/get-tooljet-url"')
  const { page } = await visit(t, url)
  await page.goto('/page')
  await page.evaluate("document.querySelector('tooljet-embed').setAttribute('endpoint', '/t/acme/embed')")
  await page.waitForSelector('tooljet-embed[state=ready]')
})

test('routes of one path with constraints each, and one that is taken', async (t) => {
  const routes = (host: string): Partial<TooljetEmbedOptions> => ({ route: { constraints: { host } }, client: { constraints: { host } } })
  const { app, toolJet } = await openHost(t, { options: routes('one.test') })
  const ask = async (host: string) => (await app.inject({ method: 'POST', url: '/api/get-tooljet-url', headers: { host } })).statusCode
  const load = async (host: string) => (await app.inject({ url: '/tooljet-embed.js', headers: { host } })).statusCode
  t.same([await ask('one.test'), await load('one.test'), await ask('two.test'), await load('two.test')], [200, 200, 404, 404])

  const options = async () => ({
    tooljet: { url: toolJet.url, apiToken: API_TOKEN }, redis: await sharedRedisUrl(), keyPrefix: newPrefix(), authenticate: async () => {}, identity: () => ANA,
  })
  const taken = async (prefix: string, own: Partial<TooljetEmbedOptions>, before: (app: FastifyInstance) => void) => {
    const app = Fastify()
    before(app)
    app.register(tooljetEmbed, { ...await options(), ...own, prefix } as never)
    await t.rejects(async () => { await app.ready() }, { code: 'TOOLJET_EMBED_OPTIONS', message: /option "(?:client|route)\.path" is "\/[\w/.-]+", which is already taken/ })
    await app.close().catch(() => {})
  }
  await taken('/portal/', {}, (app) => app.get('/portal/tooljet-embed.js', async () => ''))
  await taken('/portal', {}, (app) => app.post('/portal/api/get-tooljet-url', async () => ''))
  await taken('', routes('one.test'), (app) => app.route({ method: 'GET', url: '/tooljet-embed.js', constraints: { host: 'one.test' }, handler: async () => '' }))
})
