import { readFileSync } from 'node:fs'
import { Validator } from '@seriousme/openapi-schema-validator'
import { t as tap, test, type Test } from 'tap'
import { portalEnv, readEnv, startEnv, toolJetEnv } from '../example/env.js'
import { startServer } from '../example/redis.js'
import { errorCodes } from '../plugin/index.js'
import { chromiumPath, closeBrowserAfter, visit } from './support/browser.js'
import { Child, freePorts } from './support/child.js'
import { openPortal } from './support/example-portal.js'
import { familiesOf, samplesOf, valueOf } from './support/metrics.js'
import { ANA, CLEO, releaseRedisAfter, SALES } from './support/portal.js'
import { readQuery, UNGUARDED } from './support/promql.js'
import { until } from './support/until.js'

/*
 * What of the example is for operators and developers: /metrics with the dashboard, spans, /docs, and its environment.
 */

const ROUTE = '/api/get-tooljet-url'
/** What docker-compose.yml alone reads. */
const OF_COMPOSE = ['REDIS_PASSWORD', 'PORTAL_PORT', 'TOOLJET_PORT', 'REDISINSIGHT_PORT']
const IN_A_BROWSER = chromiumPath() === undefined ? { skip: 'there is no chromium on this machine' } : {}
const file = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')

/** Its module is for the pages. */
const ONE_APP = { apps: [{ alias: 'sales', appId: SALES.id, name: SALES.name }], embed: { client: false as const } }

releaseRedisAfter(tap)
closeBrowserAfter(tap)

/** `npm start` after four requests: minted, reused, no access, and a body that is no JSON. */
async function startAndAsk (t: Test) {
  const server = await startServer()
  t.teardown(() => server.stop())
  const port = await freePorts(1)
  const url = `http://localhost:${port}`
  const child = Child.start(t, ['--import', 'tsx', 'example/start.ts'], { PORT: String(port), REDIS_URL: server.url, OTEL_TRACES_EXPORTER: 'console' })
  await child.prints('Ctrl-C stops all of it.')

  const ask = async (email: string, body: string) => {
    const signedIn = await fetch(`${url}/sign-in`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ email }) })
    const cookie = signedIn.headers.get('set-cookie')!.split(';')[0]!
    return (await fetch(url + ROUTE, { method: 'POST', headers: { 'content-type': 'application/json', cookie }, body })).status
  }
  const sales = JSON.stringify({ app: 'sales' })
  t.same([await ask(ANA, sales), await ask(ANA, sales), await ask(CLEO, sales), await ask(CLEO, '{')], [200, 200, 403, 400])
  return { child, url }
}

test('npm start: /metrics counts what was asked', async (t) => {
  const { child, url } = await startAndAsk(t)
  t.match(child.output, `${url}/metrics and /docs`)
  const reply = await fetch(`${url}/metrics`)
  t.match(reply.headers.get('content-type'), /^text\/plain; version=0\.0\.4/)
  const text = await reply.text()
  t.same(familiesOf(text), ['tooljet_embed_answers_total', 'tooljet_embed_mint_duration_seconds', 'tooljet_embed_mint_slots_total', 'tooljet_embed_mint_wait_seconds', 'tooljet_embed_tooljet_pause_seconds', 'tooljet_embed_mint_queue_length', 'tooljet_embed_redis_up', 'tooljet_embed_audit_backlog'])
  const answers = (labels: Record<string, string>) => valueOf(text, 'tooljet_embed_answers_total', labels)
  t.same([answers({ source: 'minted' }), answers({ source: 'reused' }), answers({ code: 'TOOLJET_EMBED_ACCESS_DENIED' }), answers({ code: 'other' })], [1, 1, 1, 1])
  t.equal(valueOf(text, 'tooljet_embed_redis_up'), 1)
})

test('npm start: /metrics has all that the dashboard shows, and nothing else', async (t) => {
  const { url } = await startAndAsk(t)
  const text = await (await fetch(`${url}/metrics`)).text()
  const dashboard = JSON.parse(file('example/grafana/tooljet-embed.json')) as { panels: Array<{ title: string, targets: Array<{ expr: string }> }>, templating: { list: Array<{ type: string, name: string, definition: string }> } }
  const queries = [
    ...dashboard.panels.flatMap(({ title, targets }) => targets.map(({ expr }) => [title, expr] as const)),
    ...dashboard.templating.list.filter(({ type }) => type === 'query').map(({ name, definition }) => [name, definition] as const),
  ]
  t.ok(queries.length > 12)
  const shown = samplesOf(text)
  const used = new Set<string>()
  for (const [title, query] of queries) {
    const { samples, unknown } = readQuery(query, shown)
    t.same(unknown, [], `${title}: ${query}`)
    t.notMatch(query, UNGUARDED)
    for (const name of samples) used.add(name.replace(/_(?:bucket|count|sum)$/, ''))
  }
  t.same([...used].sort(), familiesOf(text).sort(), 'and to each family there is')
})

test('npm start: the console has a span for each request and each mint, without a secret, when asked for', async (t) => {
  const { child } = await startAndAsk(t)
  await until('the last span is printed', () => /FST_ERR[^]*^\}$/m.test(child.output))
  const spans = child.output.match(/^\{\n[^]*?^\}$/gm)!.map((span) => ({
    name: /^ {2}name: '(.+)'/m.exec(span)![1]!,
    id: /\bid: '(\w+)'/.exec(span)![1]!,
    traceId: /traceId: '(\w+)'/.exec(span)![1]!,
    parent: /parentSpanContext: \{[^}]*spanId: '(\w+)'/.exec(span)?.[1],
    source: /'tooljet_embed\.source': '(\w+)'/.exec(span)?.[1],
    error: /'error\.type': '(\w+)'/.exec(span)?.[1],
  }))
  t.match(spans.map(({ name, source, error }) => [name, source, error]), [
    ['tooljet-embed mint', undefined, undefined], ['tooljet-embed url', 'minted', undefined],
    ['tooljet-embed url', 'reused', undefined],
    ['tooljet-embed mint', undefined, 'TOOLJET_EMBED_ACCESS_DENIED'], ['tooljet-embed url', undefined, 'TOOLJET_EMBED_ACCESS_DENIED'],
    ['tooljet-embed url', undefined, /^FST_ERR/],
  ])
  t.same([spans[0]!.parent, spans[0]!.traceId, spans[1]!.parent], [spans[1]!.id, spans[1]!.traceId, undefined], 'a mint is inside of its ask')
  t.notMatch(child.output.split('Ctrl-C')[1]!, /@acme|pat_|personal-access/)
  t.equal(await child.stop(), 0)
})

type Operation = { description: string, security?: object[], responses: Record<string, { description: string, headers?: object, content: { 'application/json': { schema: { properties: object } } } }> }

test('/docs/json is a valid document of the route, with each status', async (t) => {
  const { app, url } = await openPortal(t, ONE_APP)
  const document = await (await fetch(`${url}/docs/json`)).json() as { paths: Record<string, { post: Operation }> }
  t.same(await new Validator().validate(document), { valid: true })
  t.same(Object.keys(document.paths).sort(), [ROUTE, '/sign-in'], 'pages are no API')
  t.match(document, { security: [{ session: [] }], components: { securitySchemes: { session: { in: 'cookie', name: 'portal_session' } } } })
  t.same(document.paths['/sign-in']!.post.security, [])

  const { responses } = document.paths[ROUTE]!.post
  const rows = [...file('README.md').matchAll(/^\| `([A-Z_]+)` \| (\d{3}) \|/gm)].map(([, code, status]) => [`TOOLJET_EMBED_${code}`, status!] as const)
  t.equal(rows.length, Object.keys(errorCodes).length - 1, 'the error table of the README')
  for (const [code, status] of rows) {
    t.ok(responses[status]!.description.includes(`\`${code}\`: `), code)
    const besides = { 429: ['retryAfter', 'queue'], 503: ['retryAfter'] }[status] ?? []
    t.same(Object.keys(responses[status]!.content['application/json'].schema.properties), ['statusCode', 'code', 'error', 'message', ...besides])
  }
  t.same(Object.keys(responses).sort(), [...new Set(['200', ...rows.map(([, status]) => status), '4XX', '5XX'])].sort(), 'and no other, but for those of the host')
  t.same(Object.keys(responses['200']!.content['application/json'].schema.properties), ['redirectUrl', 'urlId', 'source', 'expiresAt', 'expiresIn'])
  for (const { description } of Object.values(responses)) t.not(description, 'Default Response')

  // what it says of headers is so
  const { cookie } = await signIn(url)
  const replies: Record<string, Response> = {
    200: await fetch(url + ROUTE, { method: 'POST', headers: { cookie } }),
    400: await fetch(url + ROUTE, { method: 'POST', headers: { cookie, 'content-type': 'application/json' }, body: '{"appId":"x"}' }),
    401: await fetch(url + ROUTE, { method: 'POST' }),
  }
  for (let i = 0; i < 60; i++) replies[429] = await fetch(url + ROUTE, { method: 'POST', headers: { cookie } })
  for (const [status, { status: got, headers }] of Object.entries(replies)) {
    t.equal(String(got), status)
    t.same([...headers.keys()].filter((name) => /^x-ratelimit|^retry-after|^cache-control|^referrer/.test(name)).sort(), Object.keys(responses[status]!.headers!).sort(), `headers of ${status}`)
  }
  t.ok(app.printRoutes().includes('docs'))
})

async function signIn (url: string) {
  const reply = await fetch(`${url}/sign-in`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ email: ANA }) })
  return { cookie: reply.headers.get('set-cookie')!.split(';')[0]! }
}

test('in a browser: /docs, with its own examples, works under the policy of the portal', IN_A_BROWSER, async (t) => {
  const { url } = await openPortal(t, ONE_APP)
  const { page, complaints, asks } = await visit(t, url)
  await page.goto('/docs')
  await page.locator('.opblock').nth(1).waitFor()
  const run = async (id: string): Promise<void> => {
    const block = page.locator(`#operations-${id}`)
    await block.locator('.opblock-summary-control').click()
    await block.getByRole('button', { name: 'Try it out' }).click()
    await block.getByRole('button', { name: 'Execute' }).click()
    await block.locator('.live-responses-table .response').waitFor()
  }
  await run('session-post_sign_in')
  await run('tooljet-getTooljetUrl')
  await until('the answer is noted', () => asks.length === 1)
  t.match(asks, [{ status: 200, reply: { source: 'minted' } }])
  t.same(complaints, [])
})

const NAMES = /^#? ?([A-Z][A-Z_]+)=(.*)$/gm

test('.env.example, the schema, docker-compose.yml and docs/tooljet.md name the same variables', async (t) => {
  const example = [...file('.env.example').matchAll(NAMES)].map(([, name, value]) => [name!, value!] as const)
  const names = example.map(([name]) => name)
  t.same([...names].sort(), [...Object.keys(portalEnv.properties), ...OF_COMPOSE].sort())
  t.same(Object.keys(startEnv.properties).sort(), Object.keys(portalEnv.properties).sort())
  const compose = file('docker-compose.yml')
  for (const [, name] of compose.matchAll(/\$\{([A-Z_]+)/g)) t.ok(names.includes(name!), `docker-compose.yml: ${name}`)
  t.notMatch(compose, /\$\{[^}]*\$\{/, 'a default within a default is text to docker-compose 1')
  for (const name of OF_COMPOSE) t.match(compose, `\${${name}`)
  const { properties } = portalEnv as { properties: Record<string, { default?: unknown }> }
  for (const [name, value] of example) if (properties[name]?.default !== undefined) t.equal(value, String(properties[name].default), `default of ${name}`)

  const [, table] = /^## The stand-in\n[^]*?\n\| variable [^\n]+\n([^]*?)\n\n/m.exec(file('docs/tooljet.md'))!
  t.same([...table!.matchAll(/`([A-Z][A-Z_]+)`/g)].map(([, name]) => name).filter((name) => name !== 'TOOLJET_PUBLIC').sort(), Object.keys(toolJetEnv.properties).sort())
})

/** Runs with this environment, and no other variables of the example. */
function withEnv<T> (t: Test, env: Record<string, string>, run: () => T): T {
  const before = { ...process.env }
  for (const name of [...Object.keys(portalEnv.properties), ...Object.keys(toolJetEnv.properties)]) delete process.env[name]
  Object.assign(process.env, { ENV_FILE: '/dev/null' }, env)
  try {
    return run()
  } finally {
    for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name]
    Object.assign(process.env, before)
  }
}

test('the environment: defaults, a file, and what is said of mistakes', async (t) => {
  const folder = t.testdir({ empty: '', all: file('.env.example').replaceAll(/^# ([A-Z_]+=)/gm, '$1'), wrong: 'JWT_SECRET=too-short-secret\nPORT=80000\n' })
  const read = (schema: typeof startEnv, env: Record<string, string>) => withEnv(t, env, () => readEnv(schema, { file: true }))
  t.same(read(startEnv, {}), { PORT: 3001, HOST: 'localhost', LOG_LEVEL: 'warn', LOG_FORMAT: 'text', OTEL_TRACES_EXPORTER: 'none' }, 'npm start needs none')
  t.same(read(startEnv, { PORT: '', TOOLJET_URL: '' }), read(startEnv, {}), 'an empty one is not set')
  const all = read(portalEnv as unknown as typeof startEnv, { ENV_FILE: `${folder}/all`, PORT: '3999' })
  t.match(all, { PORT: 3999, TOOLJET_URL: 'https://tooljet.example.com', DEMO_ADMIN: 'auditor@example.com', TRUST_PROXY: 'loopback' }, 'each line of .env.example is a valid one')
  t.equal(Object.keys(all).length, Object.keys(portalEnv.properties).length)
  t.same(withEnv(t, { ENV_FILE: `${folder}/all` }, () => readEnv(toolJetEnv)).PORT, 3000, 'the stand-in alone has no file')

  const wrong = (schema: object, env: Record<string, string>): string[] => {
    try {
      read(schema as typeof startEnv, env)
      return []
    } catch (error) {
      return (error as Error).message.split('\n').sort()
    }
  }
  t.same(wrong(portalEnv, {}), [
    'JWT_SECRET is missing, expected at least 32 characters',
    'REDIS_URL is missing, expected a URL that starts with redis:// or rediss://, or none',
    'TOOLJET_API_TOKEN is missing, expected ToolJet\'s EXTERNAL_API_ACCESS_TOKEN',
    'TOOLJET_URL is missing, expected a URL that starts with http:// or https://',
  ])
  t.same(wrong(startEnv, { ENV_FILE: `${folder}/wrong` }), ['JWT_SECRET is something else (not shown), expected at least 32 characters', 'PORT is "80000", expected a port number from 1 to 65535'])
  t.same(wrong(startEnv, { REDIS_URL: 'http://:hunter2@x', TOOLJET_URL: 'ftp://hunter2@x', LOG_LEVEL: 'loud', TOOLJET_APP_ID: 'sales', OTEL_TRACES_EXPORTER: 'otlp' }), [
    'LOG_LEVEL is "loud", expected one of fatal, error, warn, info, debug, trace, silent',
    'OTEL_TRACES_EXPORTER is "otlp", expected one of none, console',
    'REDIS_URL is something else (not shown), expected a URL that starts with redis:// or rediss://, or none',
    'TOOLJET_APP_ID is "sales", expected the id of an app, a UUID',
    'TOOLJET_URL is something else (not shown), expected a URL that starts with http:// or https://',
  ])
  t.same(wrong(startEnv, { REDIS_URL: 'redis://:hunter2@x/sales' }), ['REDIS_URL is something else (not shown): it has a database that is no number, expected a URL that starts with redis:// or rediss://, or none'])
  t.throws(() => withEnv(t, { TOOLJET_TOKENS: 'all' }, () => readEnv(toolJetEnv)), { message: 'TOOLJET_TOKENS is "all", expected one of insert, replace, keep, per-app' })
  t.equal(withEnv(t, {}, () => readEnv(toolJetEnv)).TOOLJET_RETRY_AFTER, 'on')
  t.throws(() => withEnv(t, { TOOLJET_RETRY_AFTER: 'yes' }, () => readEnv(toolJetEnv)), { message: 'TOOLJET_RETRY_AFTER is "yes", expected one of on, off' })

  const cases: [string, Record<string, string>, string][] = [
    ['example/portal/server.ts', { PORT: '3001', REDIS_URL: 'redis://127.0.0.1:9', TOOLJET_URL: 'http://127.0.0.1:9', TOOLJET_API_TOKEN: 'x' }, 'The portal cannot start: JWT_SECRET is missing, expected at least 32 characters'],
    ['example/start.ts', { REDIS_URL: '127.0.0.1:6379' }, 'The example cannot start: REDIS_URL is something else (not shown), expected a URL that starts with redis:// or rediss://, or none'],
    ['example/tooljet/start.ts', { PORT: 'http' }, 'The stand-in cannot start: PORT is "http", expected a port number from 1 to 65535'],
  ]
  for (const [file, env, said] of cases) {
    const child = Child.start(t, ['--import', 'tsx', file], env)
    t.equal(await child.ends(), 1)
    t.equal(child.output, `${said}\n`)
  }
})
