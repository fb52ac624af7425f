import { execFile, spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import axe from 'axe-core'
import { t as tap, test, type Test } from 'tap'
import { buildClient } from '../.ci/build-client.js'
import { canUnpackRedis } from '../example/debian-redis.js'
import { readableLines } from '../example/portal/log.js'
import { dockerSocket, startServer } from '../example/redis.js'
import { OMAR } from './support/audit-portal.js'
import { chromiumPath, closeBrowserAfter, visit } from './support/browser.js'
import { Child, freePorts, isPortFree, npmStart } from './support/child.js'
import { plainEnv } from './support/plain-env.js'
import { ANA, CLEO, SALES } from './support/portal.js'
import { until } from './support/until.js'

/*
 * `npm start` as those meet it who lack something: Redis, a Node.js of today, ToolJet, or the right argument.
 */

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const READY = 'Ctrl-C stops all of it.'
const NOBODY = { uid: 65_534, gid: 65_534 }

closeBrowserAfter(tap)
buildClient() // the portal serves it

test('npm start -- --help, and arguments that it does not know', async (t) => {
  const help = npmStart(t, ['--help'], {})
  t.equal(await help.ends(), 0)
  t.match(help.output, /^npm start \[-- OPTIONS\]\n[^]*--instances N [^]*\.env\.example/)
  t.notMatch(help.output, 'Starting')
  const advice = '; "npm start -- --help" shows the options (all that is for the example comes after "--")'
  const cases: [string[], string][] = [
    [['--instance', '2'], `Unknown option '--instance'${advice}`],
    [['2'], `Unexpected argument '2'${advice}`], // which is what npm leaves of `npm start --instances 2`
    [['--instances'], `Option '--instances <value>' argument missing${advice}`],
    [['--instances', '0'], '--instances is "0", expected a whole number from 1 to 64'],
  ]
  await Promise.all(cases.map(async ([args, message]) => {
    const child = npmStart(t, args, {})
    t.equal(await child.ends(), 1)
    t.equal(child.output.trim(), `The example cannot start: ${message}`)
  }))
})

/** A Node.js that calls itself so. */
function calledItself (t: Test, version: string): string[] {
  const folder = t.testdir({ 'version.cjs': `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } })` })
  return ['--require', join(folder, 'version.cjs'), 'example/start.cjs', '--help']
}

test('a Node.js that is too old: npm start and npm ci say so', async (t) => {
  for (const version of ['18.20.8', '20.18.3']) {
    const child = Child.start(t, calledItself(t, version), {})
    t.equal(await child.ends(), 1)
    t.equal(child.output, `The example needs Node.js >=20.19, and this is ${version}: install a newer one from https://nodejs.org.\n`)
  }
  for (const version of ['20.19.0', '22.0.0']) t.equal(await Child.start(t, calledItself(t, version), {}).ends(), 0)

  const own = { name: 'too-new', version: '1.0.0', engines: { node: '>=99' } }
  const folder = t.testdir({ 'package.json': JSON.stringify(own), 'package-lock.json': JSON.stringify({ ...own, lockfileVersion: 3, packages: { '': own } }) })
  copyFileSync(join(ROOT, '.npmrc'), join(folder, '.npmrc'))
  const npm = await promisify(execFile)('npm', ['ci', '--offline'], { cwd: folder, env: plainEnv() }).catch((error: { stderr: string }) => error)
  t.match(npm.stderr, /EBADENGINE[^]*Required: \{"node":">=99"\}/)
})

test('npm start: lines while it starts; an outage of ToolJet is one line to read, and JSON if asked for', async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const nobody = await freePorts(1)
  for (const format of ['text', 'json']) {
    const port = await freePorts(1)
    const env = { PORT: String(port), REDIS_URL: server.url, TOOLJET_URL: `http://localhost:${nobody}`, TOOLJET_API_TOKEN: 'token', ENCRYPTION_KEY: 'a-key-of-the-test', LOG_FORMAT: format }
    const child = npmStart(t, [], env)
    const summary = await child.prints(READY)
    t.match(summary, /^Starting the portal …\n/, 'Redis and ToolJet are there')
    const { ask } = await signIn(`http://localhost:${port}`, ANA)
    for (let i = 0; i < 3; i++) t.equal((await ask({ app: 'sales' })).status, 503)
    const lines = (): string[] => child.output.slice(summary.length).split('\n').filter((line) => line !== '')
    await until('it is told', () => lines().length > 0)
    t.equal(await child.stop(), 0)
    t.equal(lines().length, 1, lines().join('\n'))
    if (format === 'text') t.match(lines()[0], /^\d\d:\d\d:\d\d ERROR tooljet-embed: ToolJet .*: ToolJet is not available: it cannot be reached: connect ECONNREFUSED \S+ \(TOOLJET_EMBED_UNAVAILABLE\)$/)
    else t.match(JSON.parse(lines()[0]!), { level: 50, code: 'TOOLJET_EMBED_UNAVAILABLE', err: { stack: /ECONNREFUSED/ } })
  }
})

test('a readable line is one line, and text, whatever was logged', async (t) => {
  const lines: string[] = []
  const { write } = readableLines({ write: (line) => lines.push(line) })
  const time = new Date(2026, 10, 26, 9, 5, 7).getTime()
  write(JSON.stringify({ level: 30, time, msg: 'tooljet-embed: url.denied', tooljetEmbedAudit: { email: ANA, app: 'x\n09:00:00 ERROR \u001b[31mred', code: 'TOOLJET_EMBED_BAD_REQUEST' } }))
  write(JSON.stringify({ level: 30, time, msg: 'incoming request', req: { method: 'GET', url: '/' } }))
  write(JSON.stringify({ level: 50, time, msg: 'it failed', err: { message: 'it failed' } }))
  t.same(lines, [
    `09:05:07 INFO tooljet-embed: url.denied (${ANA} x 09:00:00 ERROR [31mred TOOLJET_EMBED_BAD_REQUEST)\n`,
    '09:05:07 INFO incoming request (GET /)\n',
    '09:05:07 ERROR it failed\n',
  ])
})

test('Docker is looked for where it may be', async (t) => {
  const files = (path: string): string => join(t.testdir({ [path.split('/')[0]!]: path.split('/').slice(1).reduceRight<unknown>((inner, name) => ({ [name]: inner }), '') } as Parameters<Test['testdir']>[0]), path)
  t.equal(dockerSocket({ env: { DOCKER_HOST: 'tcp://192.0.2.1:2375' } }), 'tcp://192.0.2.1:2375')
  t.equal(dockerSocket({ env: {}, platform: 'win32' }), undefined, 'its named pipe is not there')
  const usual = dockerSocket({ env: {}, home: '/nowhere' })
  for (const path of ['.docker/run/docker.sock', '.docker/desktop/docker.sock', '.colima/default/docker.sock', '.config/colima/default/docker.sock']) {
    const socket = files(path)
    t.equal(dockerSocket({ env: {}, home: socket.slice(0, -path.length - 1) }), usual ?? socket)
  }
  const socket = files('run/docker.sock')
  t.equal(dockerSocket({ env: { XDG_RUNTIME_DIR: socket.replace('/docker.sock', '') }, home: '/nowhere' }), usual === undefined || usual.startsWith('/run/user') ? socket : usual)
})

test('without Redis and Docker, root on Debian gets a Redis, and nothing is installed', { skip: !canUnpackRedis() && 'this is not Debian, or not root' }, async (t) => {
  const cache = t.testdir({})
  const packages = () => spawnSync('dpkg-query', ['-W'], { encoding: 'utf8' }).stdout
  const before = packages()
  const code = `const { unpackRedis } = await import('${new URL('../example/debian-redis.ts', import.meta.url).href}')
    const { execFileSync } = await import('node:child_process')
    for (let i = 0; i < 2; i++) unpackRedis(process.argv[1])
    process.env.PATH = process.env.PATH.split(':').at(-1)
    console.log(execFileSync('redis-server', ['--version']) + '' + execFileSync('redis-cli', ['--version']))`
  const child = Child.start(t, ['--import', 'tsx', '--input-type=module', '-e', code, cache], {})
  await child.ends()
  t.match(child.output, /There is no Redis on this machine[^]*Redis server v=[^]*redis-cli \d/)
  t.equal(child.output.split('There is no Redis').length, 2, 'the second time it is there')
  t.same(readdirSync(cache), ['redis'])
  t.equal(packages(), before)
})

test('without Redis and Docker, others are told the ways to one', { skip: dockerSocket() !== undefined && 'there is Docker on this machine' }, async (t) => {
  const code = `const { provideRedis, startServer } = await import('${new URL('../example/redis.ts', import.meta.url).href}')
    process.getuid = () => ${NOBODY.uid}
    for (const start of [provideRedis, startServer]) await start().catch((error) => console.log(error.message.split('\\n')[0]))`
  const child = Child.start(t, ['--import', 'tsx', '--input-type=module', '-e', code], { PATH: t.testdir({}), HOME: '/nowhere' })
  await child.ends()
  t.same(child.output.trim().split('\n'), ['No Redis was found. Any of these gives one:', 'neither redis-server nor valkey-server is on PATH'])
})

/** @returns who asks and reads as one of the demo's users */
async function signIn (url: string, email: string) {
  const reply = await fetch(`${url}/sign-in`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ email }) })
  const cookie = reply.headers.get('set-cookie')!.split(';')[0]!
  const call = async (path: string, init: RequestInit = {}) => {
    const reply = await fetch(url + path, { ...init, headers: { cookie, ...init.headers } })
    return { status: reply.status, body: await reply.json() as Record<string, any> }
  }
  const ask = (body: object) => call('/api/get-tooljet-url', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
  return { call, ask }
}

/** Without root, Docker and Redis, where this machine lets one be so. */
function bareUser (t: Test): { env: NodeJS.ProcessEnv, user: { uid?: number, gid?: number } } {
  const folder = t.testdir({})
  chmodSync(folder, 0o755)
  const user = process.getuid?.() === 0 ? NOBODY : {}
  const mayRead = spawnSync(process.execPath, ['--version'], { cwd: ROOT, ...user }).status === 0
  if (!mayRead || dockerSocket() !== undefined) return { env: { REDIS_URL: 'none' }, user: {} }
  return { env: { PATH: folder, HOME: folder }, user }
}

/** `npm start` of such a user. */
async function startBare (t: Test) {
  const { env, user } = bareUser(t)
  const port = await freePorts(1)
  const url = `http://localhost:${port}`
  const child = npmStart(t, [], { PORT: String(port), ...env }, user)
  const summary = await child.prints(READY)
  return { child, summary, url, port, hasRedisUrl: env['REDIS_URL'] !== undefined }
}

test('npm start without root, Docker and Redis says what is missing, goes on, and stops without a line for each event', async (t) => {
  const { child, summary, url, port, hasRedisUrl } = await startBare(t)
  if (!hasRedisUrl) t.match(summary, /^Starting Redis …\nNo Redis was found\. Any of these gives one:\n(?:- .+\n){3}The portal goes on without Redis\.\n\nStarting ToolJet …\nStarting the portal …\n/)
  t.match(summary, 'Redis     none: links and audit events are in the memory of each portal')
  t.notMatch(summary, 'redis-cli')
  t.match(summary, `${url}/admin/audit as ${OMAR}`)
  t.equal((await (await signIn(url, ANA)).ask({ app: 'sales' })).status, 200)
  t.equal(await child.stop(), 0)
  const said = child.output.split('\n').filter((line) => /^\d\d:\d\d:\d\d /.test(line))
  t.match(said[0], /ERROR tooljet-embed: Redis connection lost: the portal was started without Redis$/)
  t.same(said.filter((line) => line.includes('audit event')), [], 'no line for each event at the end')
  t.ok(await isPortFree(port))
})

test('npm start without Redis answers users, and its admin queries the audit log in memory', async (t) => {
  const { url } = await startBare(t)
  const ana = await signIn(url, ANA)
  t.match(await ana.ask({ app: 'sales' }), { status: 200, body: { source: 'minted' } })
  t.match(await ana.ask({ app: 'sales' }), { status: 200, body: { source: 'reused' } })
  t.equal((await (await signIn(url, CLEO)).ask({ app: 'sales' })).status, 403)
  t.equal((await ana.call('/admin/audit/events')).status, 403)

  const { call } = await signIn(url, OMAR)
  const events = async (query: string) => (await call(`/admin/audit/events?${query}`)).body['entries'].map(({ fields }: { fields: Record<string, string> }) => fields['event'])
  t.same(await events(''), ['url.denied', 'url.reused', 'url.minted', 'audit.opened'])
  t.same(await events('email=ANA@acme.test'), ['url.reused', 'url.minted'])
  t.same(await events('code=ACCESS_DENIED&app=sales'), ['url.denied'])
  t.same(await events('code=TOOLJET_EMBED_ACCESS_DENIED&since=1h'), ['url.denied'])
  t.same(await events('outcome=success&until=1h'), [])
  t.same(await events(`event=url.reused&since=2026-01-01&until=${Date.now() + 60_000}`), ['url.reused'])
  const { body: { entries, cursor, command } } = await call('/admin/audit/events?limit=3')
  t.same([entries.length, cursor, command], [3, entries[2].id, undefined])
  t.same(await events(`limit=3&after=${cursor}`), ['audit.opened'])
  t.equal((await call('/admin/audit/events?limit=4')).body['cursor'], undefined)
  t.match(await call('/admin/audit/events?since=yesterday'), { status: 400, body: { message: /^argument "since" is "yesterday", expected an ISO 8601 time/ } })
})

test('in a browser: npm start without Redis embeds the app, tells how to get a Redis, and shows its own events', { skip: chromiumPath() === undefined && 'there is no chromium on this machine' }, async (t) => {
  const { url } = await startBare(t)
  const ana = await signIn(url, ANA)
  for (let i = 0; i < 2; i++) t.equal((await ana.ask({ app: 'sales' })).status, 200)
  t.equal((await (await signIn(url, CLEO)).ask({ app: 'sales' })).status, 403)
  const { page, complaints } = await visit(t, url)
  const banner = page.getByRole('complementary', { name: 'What is missing' })
  await page.goto('/sign-in')
  t.match(await banner.textContent(), 'Redis is missing.')
  await page.locator(`button[value="${OMAR}"]`).click()
  t.equal(await page.frameLocator('tooljet-embed iframe').locator('#user').textContent(), OMAR, 'it embeds')
  t.match(await banner.textContent(), 'Redis is missing.')
  await banner.getByText('How to get a Redis').click()
  t.equal(await banner.getByRole('listitem').count(), 3)
  t.ok(await banner.getByText('rootless Docker').isVisible())

  await page.getByRole('link', { name: 'Audit log' }).click()
  await page.locator('#live[data-state="live"]').waitFor()
  const rows = page.locator('tr.event')
  await until('the events of this process', async () => await rows.count() >= 5)
  await until('the refusal is counted from the live events', async () => await page.locator('#sum-refused').textContent() === '1')
  t.match(await page.locator('.head').textContent(), 'as this process has logged it since it started')
  t.notOk(await page.locator('#terminal').isVisible())
  await ana.ask({ app: 'inventory' })
  await rows.filter({ hasText: ANA }).filter({ hasText: 'inventory' }).waitFor()
  t.same(complaints, [])
})

test('in a browser: all pages are of one shell, at 390 px and 200 % zoom, too, and of unknown paths there is one', { skip: chromiumPath() === undefined && 'there is no chromium on this machine' }, async (t) => {
  const port = await freePorts(1)
  const url = `http://localhost:${port}`
  const child = npmStart(t, [], { PORT: String(port), REDIS_URL: 'none' })
  await child.prints(READY)
  t.match(await (await fetch(`${url}/nowhere`)).json(), { statusCode: 404, error: 'Not Found', message: 'Route GET:/nowhere not found' }, 'for who calls')

  const { page } = await visit(t, url)
  const check = async (path: string, heading: string, ready?: string): Promise<void> => {
    for (const [width, height, colorScheme] of [[1280, 800, 'light'], [390, 844, 'dark'], [640, 400, 'light']] as const) {
      await page.emulateMedia({ colorScheme })
      await page.setViewportSize({ width, height })
      await page.goto(path)
      await page.reload() // where only the hash is another
      if (ready !== undefined) await page.locator(ready).last().waitFor()
      const look = `${path}, ${width} px`
      t.equal(await page.locator('h1').textContent(), heading, look)
      t.equal(await page.evaluate('document.documentElement.scrollWidth'), width, `${look}: nothing sticks out`)
      t.same([await page.locator('header .brand').count(), await page.locator('aside.banner').count()], [1, 1], look)
      await page.evaluate(axe.source)
      const { violations } = await page.evaluate('axe.run({ iframes: false })') as { violations: Array<{ id: string, nodes: Array<{ html: string }> }> }
      t.same(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join()}`), [], look)
    }
  }
  await check('/nowhere', 'There is no such page')
  t.equal(await page.locator('nav').count(), 0, 'a guest has nowhere to go but to sign in')
  await check('/sign-in', 'Sign in', '.person')

  await page.locator(`button[value="${CLEO}"]`).click()
  await page.locator('tooljet-embed[state="fatal"]').waitFor()
  await check('/admin/audit', 'The audit log is not for you to see')
  await page.context().clearCookies()
  await page.goto('/sign-in')
  await page.locator(`button[value="${OMAR}"]`).click()
  await check('/', SALES.name, 'tooljet-embed[state="ready"]')
  await check('/#overview', 'Good to see you, Omar', 'tooljet-embed[state="ready"]')
  await check('/snippet', 'ToolJet’s documented snippet', '#reply')
  await check('/admin/audit', 'Audit log', 'tr.event')
  const nav = async () => (await page.locator('nav a').evaluateAll((links) => links.map((link: any) => link.getAttribute('href')))) as string[]
  const links = await nav()
  t.same(links, ['/#overview', '/#sales', '/#inventory', '/snippet', '/admin/audit'])
  t.equal(await page.locator('nav [aria-current]').getAttribute('href'), '/admin/audit')
  t.ok((await page.locator('tr.event').first().boundingBox())!.height < 200, 'an event is a card')

  const [reply] = await Promise.all([page.waitForResponse(`${url}/nowhere`), check('/nowhere', 'There is no such page')])
  t.equal(reply.status(), 404)
  t.same(await nav(), links)
})
