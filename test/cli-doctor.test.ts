import { chmodSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs'
import { createServer, type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { createServer as createTcpServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import { t as tap, test, type Test } from 'tap'
import { startServer } from '../example/redis.js'
import { errorBody, ToolJetStandIn, type ToolJetOptions } from '../example/tooljet/server.js'
import { DEFAULT_SEED } from '../example/tooljet/seed.js'
import { AuditKeys } from '../plugin/audit/audit-keys.js'
import { LIBRARY, VERSION } from '../plugin/audit/functions.js'
import { neededCommands } from '../plugin/cli/doctor/acl.js'
import type { Finding } from '../plugin/cli/doctor/finding.js'
import { run } from '../plugin/cli/doctor/run.js'
import { MINT_PATH } from '../plugin/tooljet/client.js'
import { urlFor } from './support/acl.js'
import { CERT, KEY } from './support/certificate.js'
import { cliEnv, cliHere, doctorFile, ended, parsed, scratch } from './support/cli.js'
import { blocksOf, file, rowsOf } from './support/markdown.js'
import { ANA, API_TOKEN, BEN, CLEO, INVENTORY, newPrefix, SALES } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { stopOwnRedis } from './support/redis.js'
import { TcpProxy, type Inspector } from './support/tcp-proxy.js'

const SECRET = 'key-of-the-doctor-81c2'
const PEOPLE = ['--user', ANA, '--user', BEN, '--outsider', CLEO, '--opens', SALES.slug, INVENTORY.id]
const server = await startServer({ args: ['--appendonly', 'yes'] })
tap.teardown(async () => {
  await server.stop()
  await stopOwnRedis()
})

interface Examined {
  code: number
  findings: Finding[]
  /** `area name level` of all but what is fine. */
  told: string[]
  of: (name: string) => Finding | undefined
}

async function examine (args: string[], env: NodeJS.ProcessEnv): Promise<Examined> {
  const { code, stdout } = await cliHere(['--json', ...args], { program: run, env: { ENCRYPTION_KEY: SECRET, TOOLJET_API_TOKEN: API_TOKEN, ...env } })
  const findings = parsed(stdout) as unknown as Finding[]
  const told = findings.filter(({ level }) => level !== 'fine').map(({ area, name, level }) => `${area} ${name} ${level}`)
  return { code, findings, told, of: (name) => findings.find((finding) => finding.name === name && finding.level !== 'fine') }
}

async function toolJet (t: Test, options: Partial<ToolJetOptions> = {}): Promise<ToolJetStandIn> {
  const standIn = await new ToolJetStandIn({ apiToken: API_TOKEN, ...options }).listen()
  t.teardown(() => standIn.close())
  return standIn
}

/** Something else at TOOLJET_URL. */
async function httpServer (t: Test, answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
  const server = createServer(answer)
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => { server.close() })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** A Redis with the plugin's own user, and its URL. */
async function goodRedis (): Promise<{ url: string, prefix: string }> {
  const prefix = newPrefix()
  const admin = newClient(server.url)
  await admin.call('FUNCTION', 'LOAD', 'REPLACE', LIBRARY).catch(() => {})
  admin.disconnect()
  return { url: await urlFor('tooljet-embed', server.url, prefix), prefix }
}

test('where all is well, nothing is found', async (t) => {
  const { url, prefix } = await goodRedis()
  const { code, told } = await examine([...PEOPLE, '--key-prefix', prefix, '--pairs', '500'], { TOOLJET_URL: (await toolJet(t)).url, REDIS_URL: url })
  t.same(told, ['tooljet spelling note', 'redis functions note'], 'but for what cannot be better')
  t.equal(code, 0)
})

test('the ACL that is asked for is that of docs/audit.md', (t) => {
  const docs = readFileSync(new URL('../docs/audit.md', import.meta.url), 'utf8')
  const [, rule] = /^redis-cli ACL SETUSER tooljet-embed (?:.*\n)((?:.*\\\n)*.*)$/m.exec(docs)!
  const inDocs = new Set([...`${rule} +ping +info +time`.matchAll(/\+([a-z]+)/g)].map(([, command]) => command))
  const asked = new Set(neededCommands('tooljet-embed:', new AuditKeys('tooljet-embed:audit')).map((line) => line.split(' ')[0]))
  t.same([...asked].sort(), [...inDocs].sort())
  t.end()
})

const forbidden = (message: string) => ({ status: 403, body: errorBody(403, message) })

/** What is wrong with a ToolJet, and what is said of it. */
const TOOLJETS: Record<string, { reply?: { status: number, body?: unknown, headers?: Record<string, string> }, env?: NodeJS.ProcessEnv, path?: string, told: string, remedy: RegExp }> = {
  'a wrong token': { env: { TOOLJET_API_TOKEN: 'another' }, told: 'token', remedy: /EXTERNAL_API_ACCESS_TOKEN/ },
  'a scheme in the token': { env: { TOOLJET_API_TOKEN: `Bearer ${API_TOKEN}` }, told: 'token-form', remedy: /the token alone/ },
  'quotes around the token': { env: { TOOLJET_API_TOKEN: `"${API_TOKEN}"` }, told: 'token-form', remedy: /leave them out/ },
  'a workspace PAT': { env: { TOOLJET_API_TOKEN: 'tj_pat_0123456789' }, told: 'token-form', remedy: /EXTERNAL_API_ACCESS_TOKEN/ },
  'base64 of a user and a password': { env: { TOOLJET_API_TOKEN: Buffer.from('admin:password').toString('base64') }, told: 'token-form', remedy: /as it stands/ },
  'the same key twice': { env: { ENCRYPTION_KEY: API_TOKEN }, told: 'key', remedy: /another/ },
  'any certificate is believed': { env: { NODE_TLS_REJECT_UNAUTHORIZED: '0' }, told: 'tls', remedy: /NODE_EXTRA_CA_CERTS/ },
  'the external API is off': { reply: forbidden('External API is disabled'), told: 'token', remedy: /ENABLE_EXTERNAL_API=true/ },
  'no licence': { reply: forbidden('You do not have access to this resource'), told: 'token', remedy: /licence/ },
  'the community edition': { reply: { status: 404, body: errorBody(404, 'Cannot POST /api/ext/users/personal-access-token') }, told: 'token', remedy: /community edition/ },
  'the plan': { reply: { status: 451 }, told: 'token', remedy: /plan/ },
  'a gateway that refuses': { reply: { status: 403, body: '<h1>Forbidden</h1>' }, told: 'token', remedy: /in front of ToolJet/ },
  'a gateway that asks who is there': { reply: { status: 401 }, told: 'token', remedy: /other credentials/ },
  '/api at the end of the address': { path: '/api', told: 'address', remedy: /leave "\/api" out/ },
  'a redirect': { reply: { status: 308, headers: { location: `https://tooljet.acme.test/base${MINT_PATH}` } }, told: 'address', remedy: /set TOOLJET_URL to that address/ },
  'a sign-in page in front': { reply: { status: 302, headers: { location: 'https://login.acme.test/x' } }, told: 'address', remedy: /tooljet\.headers/ },
  'a gateway without a server behind it': { reply: { status: 502, body: '<h1>Bad gateway</h1>' }, told: 'server', remedy: /does the gateway reach it/ },
  'the front end': { reply: { status: 200, body: '<!doctype html>', headers: { 'content-type': 'text/html' } }, told: 'address', remedy: /server/ },
  'a server with errors': { reply: { status: 500, body: errorBody(500, 'Internal server error') }, told: 'server', remedy: /own log/ },
}

test('what is wrong with a ToolJet', async (t) => {
  const { url, prefix } = await goodRedis()
  for (const [name, { reply, env = {}, path = '', told, remedy }] of Object.entries(TOOLJETS)) {
    const standIn = await toolJet(t)
    if (reply !== undefined) standIn.faults = () => ({ reply })
    const examined = await examine(['--key-prefix', prefix], { TOOLJET_URL: standIn.url + path, REDIS_URL: url, ...env })
    t.match(examined.of(told), { level: 'problem', remedy }, name)
    t.equal(examined.code, 1, name)
    t.equal(standIn.mints.length, 0, 'nothing was minted')
  }
})

test('a ToolJet that cannot be reached, with TLS and without', async (t) => {
  const { url, prefix } = await goodRedis()
  t.match(await examine(['--key-prefix', prefix], { TOOLJET_URL: 'http://127.0.0.1:1', REDIS_URL: url }), { code: 3, findings: [{}, {}, { name: 'address', level: 'unreachable', text: /ECONNREFUSED/ }] })
  const tls = createTlsServer({ key: KEY, cert: CERT })
  await new Promise<void>((resolve) => { tls.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => { tls.close() })
  const { port } = tls.address() as AddressInfo
  t.match(await examine(['--key-prefix', prefix], { TOOLJET_URL: `https://127.0.0.1:${port}`, REDIS_URL: url }), { code: 3, findings: [{}, {}, { level: 'unreachable', remedy: /NODE_EXTRA_CA_CERTS/ }] })
  const plain = await toolJet(t)
  t.match(await examine(['--key-prefix', prefix], { TOOLJET_URL: plain.url.replace('http:', 'https:'), REDIS_URL: url }), { code: 3, findings: [{}, {}, { level: 'unreachable', remedy: /http:\/\// }] })
})

test('a page that may not be shown in a frame, or is not there', async (t) => {
  const { url, prefix } = await goodRedis()
  const standIn = await toolJet(t)
  const lookAt = (page: string) => examine(['--key-prefix', prefix], { TOOLJET_URL: standIn.url, REDIS_URL: url, TOOLJET_EMBED_ORIGINS: page })
  const look = async (headers: OutgoingHttpHeaders, status = 200) => {
    const page = await httpServer(t, (_request, response) => response.writeHead(status, headers).end())
    return (await lookAt(page)).told
  }
  t.same(await look({ 'content-type': 'text/html', 'x-frame-options': 'SAMEORIGIN' }), ['tooljet frame problem', 'tooljet user note', 'redis functions note', 'capacity pairs note'])
  t.has(await look({ 'content-type': 'text/html', 'content-security-policy': "default-src 'self'; frame-ancestors 'none'" }), ['tooljet frame problem'])
  t.has(await look({ 'content-type': 'application/json' }, 404), ['tooljet page problem'])
  t.has(await look({}, 503), ['tooljet page note'], 'which tells nothing of the page')
  t.has(await look({ 'content-type': 'text/html', 'content-security-policy': 'frame-ancestors *', 'x-frame-options': 'DENY' }), ['tooljet user note'], 'the newer header counts')
  t.match((await lookAt('http://127.0.0.1:1')).of('page'), { text: /cannot be reached/, remedy: /TOOLJET_EMBED_ORIGINS/ }, 'which is the variable to mend')
})

/** Headers of ToolJet's page, and whether a portal of another origin may show it: it may not, some may, or all. */
const FRAMES: [headers: Record<string, string | string[]>, expected: 'problem' | 'note' | undefined][] = [
  [{ 'content-security-policy': ['frame-ancestors https://portal.acme.test', "frame-ancestors 'none'"] }, 'problem'], // all of them hold
  [{ 'content-security-policy': 'default-src https:, frame-ancestors;' }, 'problem'],
  [{ 'content-security-policy': "Frame-Ancestors 'SELF'; frame-ancestors *" }, 'problem'], // the first one counts
  [{ 'content-security-policy': "frame-ancestors 'self' https://portal.acme.test" }, 'note'],
  [{ 'content-security-policy': 'frame-ancestors https://portal.acme.test', 'x-frame-options': 'DENY' }, 'note'],
  [{ 'content-security-policy': "frame-src https://x.test/frame-ancestors 'none'" }, undefined],
  [{ 'x-frame-options': 'sameorigin, DENY' }, 'problem'],
  [{ 'x-frame-options': 'ALLOWALL' }, undefined], // as browsers have it
]

test('who may show a page in a frame is read as browsers read it', async (t) => {
  const { url, prefix } = await goodRedis()
  const standIn = await toolJet(t)
  for (const [headers, expected] of FRAMES) {
    const page = await httpServer(t, (_request, response) => response.writeHead(200, { 'content-type': 'text/html', ...headers }).end())
    const { of } = await examine(['--key-prefix', prefix], { TOOLJET_URL: standIn.url, REDIS_URL: url, TOOLJET_EMBED_ORIGINS: page })
    t.equal(of('frame')?.level, expected, JSON.stringify(headers))
    if (expected === 'note') t.match(of('frame'), { text: /only pages of .*https:\/\/portal\.acme\.test may/ })
  }
})

test('what a server repeats of a secret is not shown', async (t) => {
  const echo = await httpServer(t, ({ headers }, response) => response.writeHead(503, { 'retry-after': headers.authorization ?? '0' }).end())
  const { findings } = await examine([], { TOOLJET_URL: echo, REDIS_URL: server.url })
  t.match(findings.find(({ name }) => name === 'token'), { remedy: /Retry-After is Basic \[redacted\]/ })
  t.notMatch(JSON.stringify(findings), API_TOKEN)
})

test('a ToolJet that takes no call at present is not called wrong, and what was not looked at is said', async (t) => {
  const { url, prefix } = await goodRedis()
  const standIn = await toolJet(t)
  standIn.faults = () => ({ reply: { status: 429, headers: { 'retry-after': '7' } } })
  const { told, of } = await examine([...PEOPLE, '--key-prefix', prefix], { TOOLJET_URL: standIn.url, REDIS_URL: url })
  t.same(told.filter((line) => line.startsWith('tooljet')), ['tooljet token note'])
  t.match(of('token'), { text: /were not looked at/, remedy: /Retry-After is 7/ })
})

test('a ToolJet below a path', async (t) => {
  const { url, prefix } = await goodRedis()
  const standIn = await toolJet(t)
  const behind = await httpServer(t, (request, response) => {
    if (request.url!.startsWith('/tj/embed-apps/')) response.writeHead(200, { 'content-type': 'text/html' }).end()
    else if (!request.url!.startsWith('/tj/api/')) response.writeHead(404).end()
    else {
      fetch(standIn.url + request.url!.slice(3), { method: 'POST', headers: request.headers as Record<string, string>, body: Readable.toWeb(request) as ReadableStream, duplex: 'half' } as RequestInit)
        .then(async (reply) => response.writeHead(reply.status, { 'content-type': 'application/json' }).end(await reply.text()), () => response.destroy())
    }
  })
  t.notMatch((await examine(['--key-prefix', prefix], { TOOLJET_URL: `${behind}/tj`, REDIS_URL: url })).told.join(), 'page')
})

test('a proxy on the way is told apart from ToolJet', async (t) => {
  const { url, prefix } = await goodRedis()
  const proxy = createServer().on('connect', (_request, socket) => socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n'))
  await new Promise<void>((resolve) => { proxy.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => { proxy.close() })
  const before = process.env['HTTPS_PROXY']
  t.teardown(() => { if (before === undefined) delete process.env['HTTPS_PROXY']; else process.env['HTTPS_PROXY'] = before })
  for (const [port, text, remedy] of [[(proxy.address() as AddressInfo).port, /proxy 127\.0\.0\.1:\d+ refuses .*407/, /user:password/], [1, /proxy 127\.0\.0\.1:1 cannot be reached/, /NO_PROXY/]] as const) {
    process.env['HTTPS_PROXY'] = `http://127.0.0.1:${port}`
    t.match((await examine(['--key-prefix', prefix], { TOOLJET_URL: 'https://tooljet.acme.test', REDIS_URL: url })).of('address'), { level: 'unreachable', text, remedy })
  }
})

test('users, apps and origins', async (t) => {
  const { url, prefix } = await goodRedis()
  const look = async (args: string[], options: Partial<ToolJetOptions> = {}, env: NodeJS.ProcessEnv = {}) => examine(['--key-prefix', prefix, ...args], { TOOLJET_URL: (await toolJet(t, options)).url, REDIS_URL: url, ...env })
  t.match((await look(['--user', 'nobody@acme.test', '--opens', 'sales'])).of('user'), { level: 'problem', text: /no user nobody/ })
  t.match((await look(['--user', CLEO, '--opens', 'sales'])).of('access'), { level: 'problem', text: /may not open sales: the mint/ })
  t.match((await look(['--user', ANA, '--opens', 'none'])).of('app'), { level: 'problem', text: /no app none/ })
  t.match((await look(['--user', ANA, '--opens', 'sales'], { publicUrl: 'https://front.acme.test' })).of('mint'), { level: 'problem', remedy: /https:\/\/front\.acme\.test/ })
  t.match((await look(['--user', ANA, '--opens', 'sales', '--outsider', BEN])).of('access'), { level: 'problem', text: /ben@acme.test may open sales/ })
  const users = [{ email: 'Ana@acme.test', apps: ['sales'] }]
  t.match((await look(['--user', 'Ana@acme.test', '--opens', 'sales'], { seed: { ...DEFAULT_SEED, users } })).of('spelling'), { level: 'note', text: /in this spelling alone/, remedy: /small letters/ })
  t.equal((await look(['--user', 'Ana@acme.test', '--opens', 'sales'], { emailCase: 'lower' })).of('spelling'), undefined)
  t.match(await look(['--user', 'Ana@ACME.test', '--opens', 'sales']), { code: 0, told: ['tooljet spelling note', 'tooljet access note', 'redis functions note', 'capacity pairs note'] }, 'a user of the other spelling')
  for (const [status, text] of [['unreleased', /not released/], ['restricted', /restricted/]] as const) {
    for (const tokens of ['insert', 'per-app'] as const) {
      t.match((await look(['--user', ANA, '--opens', 'sales'], { tokens, seed: { ...DEFAULT_SEED, apps: [{ ...SALES, status }] } })).of('app'), { level: 'problem', text })
    }
  }
  t.match((await look(['--user', ANA, '--opens', 'sales'], { mintsPerMinute: 1 })).of('limit'), { level: 'note' })
  t.equal((await look(['--user', 'no address', '--opens', 'sales'])).code, 2)
})

test('where access is looked at', async (t) => {
  const { url, prefix } = await goodRedis()
  const env = { TOOLJET_URL: (await toolJet(t, { access: 'session' })).url, REDIS_URL: url }
  t.match((await examine([...PEOPLE, '--key-prefix', prefix], env)).of('access'), { level: 'problem', remedy: /tooljet\.checkAccess: true/ })
  t.equal((await examine([...PEOPLE, '--key-prefix', prefix, '--check-access'], env)).of('access'), undefined)
  t.match((await examine(['--user', CLEO, '--opens', 'sales', '--key-prefix', prefix], env)).of('access'), { level: 'problem', text: /session call refuses/ })
})

test('the four generations of tokens, and both units', async (t) => {
  const { url, prefix } = await goodRedis()
  const generations = { insert: ['fine', /leaves the older ones valid/], replace: ['fine', /of nobody else/], 'per-app': ['problem', /one token for each app/], keep: ['problem', /not valid before/] } as const
  for (const [tokens, [level, text]] of Object.entries(generations)) {
    for (const patUnit of ['seconds', 'minutes'] as const) {
      const { findings } = await examine([...PEOPLE, '--key-prefix', prefix], { TOOLJET_URL: (await toolJet(t, { tokens: tokens as keyof typeof generations, patUnit })).url, REDIS_URL: url })
      t.match(findings.find(({ name }) => name === 'tokens'), { level, text }, tokens)
      t.match(findings.find(({ name }) => name === 'unit'), { text: new RegExp(`in ${patUnit}`) }, `${tokens}, ${patUnit}`)
    }
  }
})

test('clocks that differ', async (t) => {
  const { url, prefix } = await goodRedis()
  const standIn = await toolJet(t)
  const { now } = Date
  t.teardown(() => { Date.now = now })
  Date.now = () => now() - 60_000
  const { of } = await examine(['--key-prefix', prefix], { TOOLJET_URL: standIn.url, REDIS_URL: url })
  Date.now = now
  t.match(of('clock'), { level: 'problem', text: /60 s ahead of/ })
})

/** What is wrong with a Redis, as a server of its own shows it. */
const SERVERS: Record<string, { args: string[], password?: string, told: string, text: RegExp }> = {
  'the log goes first': { args: ['--maxmemory', '100mb', '--maxmemory-policy', 'allkeys-lru'], told: 'eviction', text: /audit log goes first/ },
  'little room': { args: ['--maxmemory', '1mb'], told: 'room', text: /% of its memory/ },
  'few connections': { args: ['--maxclients', '1'], told: 'clients', text: /1 of 1 connections/ },
  'a replica': { args: ['--replicaof', '127.0.0.1', '1'], told: 'role', text: /replica/ },
  'no persistence': { args: ['--appendonly', 'no'], told: 'persistence', text: /no append-only file/ },
  'a password that was left out': { args: [], password: 'secret', told: 'address', text: /NOAUTH/ },
  'a Cluster': { args: ['--cluster-enabled', 'yes'], told: 'kind', text: /Cluster/ },
  'no scripts': { args: ['--rename-command', 'EVAL', 'other'], told: 'scripts', text: /unknown command/ },
  'no scripts by digest': { args: ['--rename-command', 'EVALSHA', 'other'], told: 'scripts', text: /unknown command/ },
  'replicas that lack': { args: ['--min-replicas-to-write', '1'], told: 'writes', text: /NOREPLICAS/ },
  'no memory': { args: ['--maxmemory', '1mb', '--maxmemory-policy', 'noeviction'], told: 'writes', text: /OOM/ },
  'all rights': { args: [], told: 'acl', text: /more than is needed/ },
}

test('what is wrong with a Redis', { timeout: 60_000 }, async (t) => {
  const { url: TOOLJET_URL } = await toolJet(t)
  for (const [name, { args, password, told, text }] of Object.entries(SERVERS)) {
    const redis = await startServer({ args })
    if (password !== undefined) {
      const admin = newClient(redis.url)
      await admin.config('SET', 'requirepass', password)
      admin.disconnect()
    }
    const { of } = await examine([], { TOOLJET_URL, REDIS_URL: redis.url })
    await redis.stop()
    t.match(of(told), { text }, name)
  }
})

test('rights that lack, functions of another version, a key of another type', async (t) => {
  const { url: TOOLJET_URL } = await toolJet(t)
  const own = await startServer()
  t.teardown(() => own.stop())
  const admin = newClient(own.url)
  for (const [rule, text] of [['-zadd', /may not run ZADD on/], ['-eval', /EVAL/]] as const) {
    await admin.call('ACL', 'SETUSER', 'lacking', 'reset', 'on', '>change-me', '~*', '+@all', rule)
    const examined = await examine([], { TOOLJET_URL, REDIS_URL: own.url.replace('//', '//lacking:change-me@') })
    t.match(examined.of('acl'), { level: 'problem', text })
    t.equal(examined.code, 1)
  }
  await admin.set('tooljet-embed:audit', 'x')
  await admin.call('FUNCTION', 'LOAD', LIBRARY.replace(`VERSION = ${VERSION}`, 'VERSION = 1'))
  admin.disconnect()
  const { of } = await examine([], { TOOLJET_URL, REDIS_URL: own.url })
  t.match(of('stream'), { level: 'problem', text: /no stream, but a string/ })
  t.match(of('functions'), { level: 'problem', text: /older version \(1,/ })
})

test('a Redis that cannot be reached, refuses, or is something else', async (t) => {
  const { url: TOOLJET_URL } = await toolJet(t)
  t.match((await examine([], { TOOLJET_URL, REDIS_URL: 'redis://127.0.0.1:1' })), { code: 3, told: ['tooljet user note', 'redis address unreachable', 'capacity pairs note'] })
  t.match((await examine([], { TOOLJET_URL, REDIS_URL: server.url.replace('//', '//somebody:wrong@') })).of('address'), { level: 'unreachable', remedy: /user:password/ })
  t.match((await examine([], { TOOLJET_URL, REDIS_URL: server.url.replace('redis:', 'rediss:') })).of('address'), { level: 'unreachable', remedy: /redis:\/\// })

  const chatty = createTcpServer((socket) => socket.on('data', () => socket.write('-ERR hunter%2 is no password\r\n')))
  await new Promise<void>((resolve) => { chatty.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => { chatty.close() })
  const { text } = (await examine([], { TOOLJET_URL, REDIS_URL: `redis://:hunter%252@127.0.0.1:${(chatty.address() as AddressInfo).port}` })).of('address')!
  t.match(text, /\[redacted\] is no password/)
  t.notMatch(text, 'hunter')

  const told = async (info: (text: string) => string) => {
    const proxy = await Disguise.as(server.port, info)
    t.teardown(() => proxy.close())
    return (await examine([], { TOOLJET_URL, REDIS_URL: `redis://127.0.0.1:${proxy.port}` })).of
  }
  t.match((await told((text) => text.replace(/redis_version:\d+/, (version) => version.replace(/\d+$/, '5'))))('version'), { level: 'problem', text: /older than 6\.2/ })
  t.match((await told((text) => text.replace('redis_mode:standalone', 'redis_mode:sentinel  ')))('kind'), { level: 'problem', text: /Sentinel/ })
  t.match((await told((text) => text.replace('rdb_last_bgsave_status:ok', 'rdb_last_bgsave_status:er')))('persistence'), { level: 'problem', text: /disk/ })
})

/** A Redis that tells something else of itself, of the same length. */
class Disguise extends TcpProxy {
  #info: (text: string) => string = (text) => text

  static async as (port: number, info: (text: string) => string): Promise<Disguise> {
    const proxy = new Disguise(port)
    proxy.#info = info
    return proxy.listen()
  }

  protected override inspector (): Inspector {
    return { request () {}, reply: (chunk) => [{ bytes: Buffer.from(this.#info(chunk.toString('latin1')), 'latin1') }] }
  }
}

test('capacity', async (t) => {
  const { url, prefix } = await goodRedis()
  const { url: TOOLJET_URL } = await toolJet(t)
  const look = async (...args: string[]) => (await examine(['--key-prefix', prefix, ...args], { TOOLJET_URL, REDIS_URL: url })).findings.find(({ name }) => name === 'pairs')
  t.match(await look('--pairs', '590'), { level: 'fine', text: /590 pairs/ })
  const { remedy } = await look('--pairs', '1000') ?? {}
  t.match(remedy, /patExpiry to 6180,/)
  t.match(await look('--pairs', '1000', '--pat-expiry', '6180'), { level: 'fine' }, 'what is said is enough')
  t.match(await look('--pairs', '3000', '--mint-limit', '60/1m'), { level: 'fine' })
  t.match(await look('--mint-limit', 'none'), { level: 'fine' })
})

test('one screen, as a command; no secret is in it', async (t) => {
  const { url, prefix } = await goodRedis()
  const standIn = await toolJet(t)
  const env = cliEnv({ TOOLJET_URL: standIn.url, TOOLJET_API_TOKEN: API_TOKEN, REDIS_URL: url, ENCRYPTION_KEY: SECRET })
  const screen = await ended(process.execPath, [doctorFile(), ...PEOPLE, '--key-prefix', prefix], env)
  t.match(screen, { code: 0, stderr: '', stdout: /^This machine\n {2}ok {4}Node[^]*\nToolJet\n[^]*\nRedis\n[^]*\nCapacity\n[^]*\nNothing is wrong\.\n$/ })
  t.ok(screen.stdout.split('\n').length <= 40, 'it is one')
  const json = await ended(process.execPath, [doctorFile(), ...PEOPLE, '--key-prefix', prefix, '--json'], env)
  for (const text of [screen.stdout, json.stdout]) {
    for (const secret of [API_TOKEN, SECRET, 'change-me', 'pat_', ...standIn.mints.map(({ token }) => token!)]) t.notOk(text.includes(secret))
  }
  const help = await ended(process.execPath, [doctorFile(), '--help'], env)
  for (const option of ['user', 'opens', 'outsider', 'pairs', 'check-access', 'pat-expiry', 'mint-limit', 'key-prefix', 'stream', 'json', 'version']) t.match(help.stdout, new RegExp(`^ {2}--${option} `, 'm'))
  t.match(await ended(process.execPath, [doctorFile()], cliEnv({})), { code: 2, stderr: /REDIS_URL is missing/ })
  t.match(await ended(process.execPath, [doctorFile()], { ...env, TOOLJET_API_TOKEN: 'Basic hunter2' }), { code: 2, stderr: /^(?!.*hunter2).*TOOLJET_API_TOKEN .*without "Basic "/ })
  t.match(await ended(process.execPath, [doctorFile()], { ...env, TOOLJET_URL: 'https://tooljet.test', HTTPS_PROXY: 'socks5://hunter2@x' }), { code: 2, stderr: /^(?!.*hunter2).*HTTPS_PROXY/ })
})

test('docs/doctor.md: the commands run as they are written', { timeout: 60_000 }, async (t) => {
  const [block, ...others] = blocksOf('docs/doctor.md')
  t.same(others, [])
  const { url: TOOLJET_URL } = await toolJet(t)
  const folder = scratch(t)
  mkdirSync(join(folder, 'node_modules', '.bin'), { recursive: true })
  symlinkSync(doctorFile(), join(folder, 'node_modules', '.bin', 'tooljet-embed-doctor'))
  chmodSync(doctorFile(), 0o755) // as npm does
  const { code, stdout, stderr } = await ended('sh', ['-euc', `cd '${folder}'; ${block!.code}`], { TOOLJET_URL, TOOLJET_API_TOKEN: API_TOKEN, REDIS_URL: server.url, ENCRYPTION_KEY: SECRET })
  t.match({ code, stderr }, { code: 0, stderr: '' })
  t.equal(stdout.split('Nothing is wrong.').length, 3)
  const told = rowsOf(file('docs/doctor.md')).map(([cell]) => cell!.replaceAll('`', ''))
  for (const cell of ['fine', 'note', 'problem', 'unreachable', '0', '1', '2', '3', '70']) t.ok(told.includes(cell), cell)
})
