import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { t as tap, test, type Test } from 'tap'
import { startServer } from '../example/redis.js'
import type { ToolJetOptions } from '../example/tooljet/server.js'
import type { TooljetEmbedOptions, TooljetTarget } from '../plugin/index.js'
import { EXIT } from '../plugin/cli/errors.js'
import { cliEnv, ended, HAS_SCRIPT, parsed, scratch, visible, warmFile } from './support/cli.js'
import { blocksOf, rowsOf, sectionOf } from './support/markdown.js'
import { ANA, API_TOKEN, BEN, CLEO, INVENTORY, Portal, releaseRedisAfter, SALES } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { sharedRedisUrl } from './support/redis.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

const SECRET = 'key-of-the-warmed-portal-81c2'
const users = (count: number) => Array.from({ length: count }, (_, i) => `user${i}@acme.test`)
const seedOf = (emails: string[]) => ({ apps: [SALES, INVENTORY], users: emails.map((email) => ({ email, apps: [SALES.slug, INVENTORY.slug] })) })
const csvOf = (emails: string[]) => `email,appId\n${emails.map((email) => `${email},${SALES.id}\n`).join('')}`

interface Run {
  code: number | null
  stdout: string
  stderr: string
}

/** A program under way. */
function start (args: string[], input: string, env: NodeJS.ProcessEnv) {
  const child = spawn(process.execPath, [warmFile(), ...args], { env: cliEnv(env), stdio: 'pipe' })
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) child[name].setEncoding('utf8').on('data', (text: string) => { output[name] += text })
  child.stdin.on('error', () => {}) // it may end before it has read all
  child.stdin.end(input)
  const end = once(child, 'close').then(([code]): Run => ({ code: code as number | null, ...output }))
  return { child, output, end }
}

/** A portal, and the program in its environment. */
async function open (t: Test, { options = {}, mintLimit, toolJet = {} }: { options?: Partial<TooljetEmbedOptions>, mintLimit?: TooljetTarget['mintLimit'], toolJet?: Partial<ToolJetOptions> } = {}) {
  const portal = await Portal.open(t, { options: { encryptionKey: SECRET, ...options }, ...(mintLimit !== undefined && { mintLimit }), toolJet })
  const env = { TOOLJET_URL: portal.toolJet.url, TOOLJET_API_TOKEN: API_TOKEN, REDIS_URL: await sharedRedisUrl(), ENCRYPTION_KEY: SECRET }
  const begin = (args: string[], input: string, more: NodeJS.ProcessEnv = {}) => start(['--key-prefix', portal.prefix, ...args], input, { ...env, ...more })
  return { portal, env, begin, warm: (args: string[], input: string, more?: NodeJS.ProcessEnv) => begin(args, input, more).end }
}

/** A PAT, a URL with one, the token and the keys. */
function secretsIn ({ stdout, stderr }: Run): RegExpExecArray | null {
  return new RegExp(`pat_|personal-access-token|${API_TOKEN}|${SECRET}|hunter2`).exec(stdout + stderr)
}

test('help and version', async (t) => {
  const { stdout, code } = await start(['--help'], '', {}).end
  t.equal(code, 0)
  for (const name of ['valid-for', 'pat-expiry', 'session-expiry', 'min-remaining', 'key-prefix', 'stream', 'mint-limit', 'check-access', 'dry-run', 'json', 'version', 'help']) {
    t.match(stdout, new RegExp(`^ {2}--${name} `, 'm'))
  }
  for (const exit of [0, 1, 2, 3, 70, 130]) t.match(stdout, new RegExp(`^ {2}${exit} `, 'm'))
  t.match(stdout, /same Redis, ToolJet, keys and keyPrefix\. Lifetimes/)
  t.match(await start(['--version'], '', {}).end, { code: 0, stdout: /^\d+\.\d+\.\d+\n$/ })
})

test('CSV and NDJSON, from a file and from standard input: the portal reuses what was minted, a second run costs no call', { timeout: 240_000 }, async (t) => {
  const { portal, warm } = await open(t)
  const file = join(scratch(t), 'pairs.csv')
  writeFileSync(file, `\uFEFFname, Email ,appId,AppSlug,app\r\n"Ben, ""the"" user\nof two lines",${BEN},,${SALES.slug},\r\n\r\nAna," ANA@acme.test ",${SALES.id.toUpperCase()},,\r\nAna,${ANA},,,${INVENTORY.id}\r\nAna again,${ANA},${SALES.id},,`)
  const first = await warm([file], '')
  t.match(first, { code: 0, stdout: '3 minted, 0 already cached, 0 failed\n', stderr: '' })
  t.same(portal.toolJet.calls.map(({ body }) => body['email']).sort(), [ANA, ANA, BEN])
  t.match(portal.toolJet.calls[0]!.body, { patExpiry: 3600, sessionExpiry: 60 })

  const again = await warm(['--json', '-'], `{"email":"${ANA}","app":"${SALES.slug}"}\n\r\n  {"email":"${BEN}","appId":"${SALES.id}","name":"Ben"}`)
  t.match(again, { code: 0, stderr: '' })
  t.same(parsed(again.stdout), [{ total: 2, minted: 0, alreadyCached: 2, failed: [], isStopped: false }])
  for (const [email, appId] of [[ANA, SALES.id], [ANA, INVENTORY.id], [BEN, SALES.id]]) {
    t.equal((await portal.ask(email!, { appId })).body.source, 'reused', `${email} ${appId}`)
  }
  t.equal(portal.toolJet.calls.length, 3)
  for (const run of [first, again]) t.equal(secretsIn(run), null)

  const events = (await portal.audit()).filter(({ event }) => event === 'url.warmed')
  t.equal(events.length, 5)
  t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true, instances: { length: 3 } }, 'the log holds its events, and is intact')
})

test('lifetimes, keys and limit are those that are given', { timeout: 240_000 }, async (t) => {
  const options = { patExpiry: 7200, sessionExpiry: 30, audit: { identity: 'hmac' } } as const
  const { portal, warm } = await open(t, { options: { ...options, encryptionKey: [SECRET, 'older-key-of-the-portal-1'] }, mintLimit: { max: 10, timeWindow: 3000 } })
  const keys = join(scratch(t), 'keys')
  writeFileSync(keys, `${SECRET}\nolder-key-of-the-portal-1\n`)
  const args = ['--pat-expiry', '7200', '--session-expiry', '30', '--min-remaining', '10', '--pseudonyms', '--mint-limit', '10/3s', '--key-file', keys]
  t.match(await warm([...args, '--valid-for', '1 hour', '-'], csvOf([ANA])), { code: 0, stderr: '' })
  t.match(portal.toolJet.calls, [{ body: { patExpiry: 7200, sessionExpiry: 30 } }])
  const { body } = await portal.ask(ANA)
  t.equal(body.source, 'reused')
  t.ok(body.expiresIn > 7000)
  t.match(await warm([...args, '--valid-for', '7199.9s', '-'], csvOf([ANA])), { code: 0, stdout: /^1 minted/ }, 'what ends sooner is minted anew')
  t.notMatch(await portal.dumpRedis(), ANA, 'it names nobody')
})

test('--check-access: who may not open the app is not cached', { timeout: 240_000 }, async (t) => {
  const { portal, warm } = await open(t, { toolJet: { access: 'session' } })
  t.match(await warm(['--check-access', '-'], csvOf([ANA, CLEO])), { code: 1, stdout: /^1 minted/, stderr: /ACCESS_DENIED/ })
  t.equal(portal.toolJet.sessionCalls.length, 2)
  t.equal((await portal.cached('url')).length, 1)
  t.match(await warm(['-'], csvOf([BEN])), { code: 0 })
  t.equal(portal.toolJet.sessionCalls.length, 2, 'without it nothing is asked')
})

test('wrong usage is named, ends with 2, and nothing is asked', { timeout: 240_000 }, async (t) => {
  const { portal, warm } = await open(t)
  const wrong = `email,appId\nben,${SALES.id}\n${ANA},no-uuid\n${ANA}\n,${SALES.id}\n"${ANA},${SALES.id}\n${BEN},\n`
  const lines = await warm(['-'], wrong)
  t.match(lines, { code: 2, stdout: '' })
  t.same(lines.stderr.split('\n').map((line) => /^line (\d+): /.exec(line)?.[1]).filter(Boolean), ['2', '3', '4', '5', '6', '7'])
  t.match(lines.stderr, /^line 2: "email" must be an e-mail address\nline 3: .*"appId" must be a UUID\.\nline 4: it has 1 field, and the header 2\n/)
  const many = await warm(['--dry-run', '-'], csvOf(Array.from({ length: 25 }, () => 'pat_0123456789abcdef0123456789abcdef')))
  t.match(many, { code: 2 })
  t.equal(many.stderr.match(/^line /gm)!.length, 20)
  t.match(many.stderr, /^and 5 lines more\n.*: 25 lines cannot be used, and nothing was done$/m)
  t.equal(secretsIn(many), null)

  const good = csvOf([ANA])
  const cases: [args: string[], input: string | Buffer, message: RegExp, env?: NodeJS.ProcessEnv][] = [
    [[], '', /expected one FILE, or -/],
    [['a', 'b'], '', /expected one FILE, or -/],
    [['/nonexistent/pairs.csv'], '', /: \/nonexistent\/pairs\.csv: ENOENT/],
    [['-'], '', /there is no pair/],
    [['-'], 'email,appId\n', /there is no pair/],
    [['-'], 'name,app\n', /^line 1: this is to be the header: .*"email"/],
    [['-'], 'email,email,app\n', /^line 1: this is to be the header: .*each once/],
    [['-'], '{"email":"ana@acme.test","app":"sales"}\n{"email":\n{"email":"ana@acme.test","app":5}\n[]\n', /^line 2: it is no JSON\nline 3: .*\nline 4: "email"/],
    [['-'], '{"email":"ana@acme.test","app":"sales","appSlug":"sales"}', /^line 1: name the app by one of/],
    [['-'], '{"email":"ana@acme.test"}', /^line 1: .*name it by appId or appSlug/],
    [['-'], Buffer.from('email,app\nm\xfcller@acme.test,sales\n', 'latin1'), /standard input: it is not UTF-8/],
    [['--emial', '-'], good, /unknown option --emial, expected one of --valid-for, /],
    [['--valid-for', '10', '-'], good, /--valid-for has "10", expected a time like 10h/],
    [['--valid-for', '1h', '-'], good, /--valid-for is "1h", expected less than --pat-expiry, which is 3600 seconds/],
    [['--pat-expiry', '1h', '-'], good, /--pat-expiry is "1h", expected a whole number/],
    [['--min-remaining', '3600', '-'], good, /--min-remaining is 3600, expected .* less than patExpiry/],
    [['--mint-limit', '10', '-'], good, /--mint-limit is "10", expected auto, none, or/],
    [['--mint-limit', '10/60000', '-'], good, /--mint-limit has "60000", expected a time/],
    [['--stream', 'a b', '-'], good, /--stream is "a b", expected a key/],
    [['-'], good, /TOOLJET_URL is missing, expected an http/, { TOOLJET_URL: '' }],
    [['-'], good, /TOOLJET_URL is something that does not begin with http:\/\/ or https:\/\/ \(not shown\)/, { TOOLJET_URL: 'ftp://:hunter2@acme.test' }],
    [['-'], good, /TOOLJET_EMBED_ORIGINS is /, { TOOLJET_EMBED_ORIGINS: 'https://acme.test, acme.test' }],
    [['-'], good, /REDIS_URL is missing/, { REDIS_URL: '' }],
    [['-'], good, /REDIS_URL is something else \(not shown\)/, { REDIS_URL: 'http://:hunter2@acme.test' }],
    [['-'], good, /ENCRYPTION_KEY \(or --key-file\) is a string \(not shown\)/, { ENCRYPTION_KEY: 'hunter2' }],
  ]
  await Promise.all([0, 1].map(async (worker) => {
    for (const [args, input, message, env] of cases.filter((_, i) => i % 2 === worker)) {
      const run = await warm(args, input as string, env)
      t.match(run, { code: 2, stdout: '', stderr: message }, `${args.join(' ')} ${String(message)}`)
      t.equal(secretsIn(run), null)
    }
  }))
  t.equal(portal.toolJet.calls.length, 0)
  t.same(await portal.audit(), [])
})

test('a dry run counts pairs, needs no environment and calls nothing', async (t) => {
  const input = csvOf([ANA, BEN, ANA])
  const run = (args: string[]) => start([...args, '--dry-run', '-'], input, { TOOLJET_URL: '', REDIS_URL: 'redis://127.0.0.1:1' }).end
  t.match(await run([]), { code: 0, stdout: '2 pairs, nothing was done\n', stderr: '' })
  t.match(await run(['--json']), { code: 0, stdout: '{"total":2}\n', stderr: '' })
})

test('pairs that fail are named, and end it with 1', { timeout: 240_000 }, async (t) => {
  const { portal, warm } = await open(t, { mintLimit: false })
  const strangers = users(24)
  const run = await warm(['--json', '--mint-limit', 'none', '-'], csvOf([ANA, CLEO, ...strangers]))
  t.match(run, { code: 1 })
  const [report] = parsed(run.stdout) as [{ failed: { email: string, app: string, code: string }[] }]
  t.match(report, { total: 26, minted: 1, alreadyCached: 0, isStopped: false, failed: { length: 25 } })
  t.match(report.failed.find(({ email }) => email === CLEO), { app: SALES.id, code: 'TOOLJET_EMBED_ACCESS_DENIED' })
  t.equal(run.stderr.match(new RegExp(`^\\S+@acme\\.test ${SALES.id}: TOOLJET_EMBED_\\w+$`, 'gm'))!.length, 20)
  t.match(run.stderr, /^and 5 pairs more$/m)
  t.equal(portal.toolJet.calls.length, 26, 'each was asked for once')
})

test('ToolJet or Redis that cannot be reached, or refuse, at the start: 3', { timeout: 240_000 }, async (t) => {
  const { portal, warm } = await open(t)
  const nobody = await warm(['-'], csvOf([ANA]), { TOOLJET_URL: 'http://127.0.0.1:1' })
  t.match(nobody, { code: 3, stdout: '', stderr: /^tooljet-embed-warm: ToolJet mint failed: TOOLJET_EMBED_UNAVAILABLE$/m })
  const wrongToken = await warm(['-'], csvOf([ANA, BEN]), { TOOLJET_API_TOKEN: 'hunter2' })
  t.match(wrongToken, { code: 3, stdout: '', stderr: /^error: ToolJet mint failed: [^]*^tooljet-embed-warm: ToolJet mint failed: TOOLJET_EMBED_MISCONFIGURED$/m })
  t.equal(secretsIn(wrongToken), null)
  t.equal(portal.toolJet.mints.length, 0)
  t.match(await warm(['-'], csvOf([ANA]), { REDIS_URL: 'redis://:hunter2@127.0.0.1:1' }), { code: 3, stdout: '', stderr: 'tooljet-embed-warm: Redis cannot be reached at 127.0.0.1:1: connect ECONNREFUSED 127.0.0.1:1\n' })

  const server = await startServer()
  const admin = newClient(server.url)
  t.teardown(async () => {
    admin.disconnect()
    await server.stop()
  })
  await admin.replicaof('127.0.0.1', 1)
  t.match(await warm(['-'], csvOf([ANA]), { REDIS_URL: server.url }), { code: 3, stdout: '', stderr: /READONLY[^]*Redis does not accept writes\n$/ })
  await admin.config('SET', 'requirepass', 'right')
  t.match(await warm(['-'], csvOf([ANA]), { REDIS_URL: server.url }), { code: 3, stdout: '', stderr: /: Redis .*NOAUTH/ })
  t.match(await warm(['-'], csvOf([ANA]), { REDIS_URL: server.url.replace('//', '//:hunter2@') }), { code: 3, stdout: '', stderr: /: Redis .*WRONGPASS/ })
  t.equal(portal.toolJet.mints.length, 0)

  await portal.ask(ANA)
  portal.toolJet.faults = () => ({ reply: { status: 500 } })
  t.match(await warm(['-'], csvOf([ANA])), { code: 0, stdout: /1 already cached/ }, 'what is cached needs no ToolJet')
})

test('a ToolJet that fails later on is waited for', { timeout: 240_000 }, async (t) => {
  const { portal, begin } = await open(t, { mintLimit: false })
  const { end } = begin(['--mint-limit', 'none', '-'], csvOf([ANA, BEN]))
  let calls = 0
  portal.toolJet.faults = () => (++calls === 1 ? undefined : calls < 4 ? { delayMs: 100, reply: { status: 500 } } : undefined)
  t.match(await end, { code: 0, stdout: '2 minted, 0 already cached, 0 failed\n', stderr: /^error: ToolJet mint failed/ })
})

test('Ctrl-C ends it after the calls under way, it goes on when it is run again; a second one ends it at once', { timeout: 240_000 }, async (t) => {
  const emails = users(8)
  const { portal, begin, warm } = await open(t, { mintLimit: false, toolJet: { seed: seedOf(emails) } })
  portal.toolJet.faults = () => ({ delayMs: 1500 })
  const args = ['--mint-limit', 'none', '-']
  const { child, end } = begin(args, csvOf(emails))
  await until('calls are under way', () => portal.toolJet.calls.length === 4)
  child.kill('SIGINT')
  child.kill('SIGINT') // as npx passes on what the terminal has sent to both
  t.match(await end, { code: 130, stdout: '4 minted, 0 already cached, 0 failed\n', stderr: 'stopped; run it again to go on: what is cached costs no call\n' })
  t.equal(portal.toolJet.calls.length, 4)
  t.equal(portal.toolJet.mints.length, 4)
  t.equal((await portal.audit()).filter(({ event }) => event === 'url.warmed').length, 4)

  portal.toolJet.faults = () => ({ hang: true })
  const hurried = begin(args, csvOf(emails))
  await until('calls hang', () => portal.toolJet.calls.length === 8)
  hurried.child.kill('SIGINT')
  await sleep(700)
  t.equal(hurried.child.exitCode, null)
  hurried.child.kill('SIGINT')
  t.match(await hurried.end, { code: 130, stdout: '' }, 'which no call has come back to')

  portal.toolJet.faults = undefined
  await until('the locks of the one that was ended are over', async () => (await portal.cached('lock')).length === 0 || undefined)
  t.match(await warm(args, csvOf(emails)), { code: 0, stdout: '4 minted, 4 already cached, 0 failed\n' })
})

test('docs/operations.md: the commands run as they are written', { timeout: 240_000 }, async (t) => {
  const [code, ...others] = blocksOf('docs/operations.md').filter(({ code }) => code.includes('tooljet-embed-warm'))
  t.same(others, [])
  const server = await startServer() // for the default names
  t.teardown(() => server.stop())
  const { portal, env } = await open(t)
  const folder = scratch(t)
  mkdirSync(join(folder, 'node_modules', '.bin'), { recursive: true })
  symlinkSync(warmFile(), join(folder, 'node_modules', '.bin', 'tooljet-embed-warm'))
  chmodSync(warmFile(), 0o755) // as npm does
  const run = await ended('sh', ['-euc', `cd '${folder}'; ${code!.code}`], { ...env, REDIS_URL: server.url })
  t.match(run, { code: 0, stderr: '' })
  t.match(run.stdout, /^2 pairs, nothing was done\n2 minted, 0 already cached, 0 failed\n\{"total":1,"minted":0,"alreadyCached":1,/)
  t.match(portal.toolJet.calls, [{ body: { patExpiry: 43_200 } }, {}])

  const table = rowsOf(sectionOf('docs/operations.md', '## Warming the cache')).map(([code]) => Number(code))
  t.same(table.sort((one, other) => one - other), [...new Set(Object.values(EXIT))].sort((one, other) => one - other), 'all exit codes are told')
})

test('on a terminal one line tells how far it is, and the time left', { timeout: 240_000, ...(!HAS_SCRIPT && { skip: 'there is no `script` of util-linux, which makes a terminal' }) }, async (t) => {
  const emails = users(10)
  const { portal, env } = await open(t, { mintLimit: { max: 5, timeWindow: 2000 }, toolJet: { seed: seedOf(emails) } })
  const file = join(scratch(t), 'pairs.csv')
  writeFileSync(file, csvOf(emails))
  const { code, stdout } = await ended('script', ['-qec', `exec '${process.execPath}' '${warmFile()}' --key-prefix '${portal.prefix}' --mint-limit 5/2s '${file}'`, '/dev/null'], { TERM: 'xterm', ...env })
  t.equal(code, 0)
  t.match(visible(stdout), /<CR>4 of 10 \(40 %\): 4 minted, 0 already cached, 0 failed, about 1 min left<ESC>\[K/)
  t.match(visible(stdout), /<CR><ESC>\[K10 minted, 0 already cached, 0 failed<CR>\n$/, 'and is gone at the end')
})
