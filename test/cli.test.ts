import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import type { Redis } from 'ioredis'
import { t as tap, test, type Test } from 'tap'
import type { AuditEvent } from '../plugin/audit/event.js'
import { loadLibrary } from '../plugin/audit/library.js'
import { Pseudonyms } from '../plugin/audit/pseudonyms.js'
import { deriveKeys } from '../plugin/crypto/secret-keys.js'
import type { RedisLike } from '../plugin/redis/redis-like.js'
import { builtPackage, cli, cliEnv, cliHere, cliOnTerminal, ended, HAS_SCRIPT, ids, KEY, Log, parsed, scratch, visible } from './support/cli.js'
import { newPrefix, releaseRedisAfter } from './support/portal.js'
import { keysOf, newClient, sharedRedisUrl } from './support/redis.js'

releaseRedisAfter(tap)

const ANA = 'ana@acme.test'
const BEN = 'ben@acme.test'
const ESCAPES = '\u001b]0;pwned\u0007\u001b[2J\u009b31m\u202egnp.exe\u2028\u{e0001}'
const pty = HAS_SCRIPT ? {} : { skip: 'there is no `script` of util-linux, which makes a terminal' }

/** A log in the shared Redis, and the arguments that name it. */
async function openLog (t: Test, events: (AuditEvent & { instance?: string })[] = []): Promise<{ log: Log, at: string[], redis: Redis, ids: string[] }> {
  const url = await sharedRedisUrl()
  const redis = newClient(url)
  const prefix = newPrefix()
  t.teardown(async () => {
    await Promise.all((await keysOf(redis, prefix)).map((key) => redis.del(key)))
    redis.disconnect()
  })
  await loadLibrary(redis as unknown as RedisLike)
  const log = new Log(redis, `${prefix}audit`)
  return { log, at: ['--redis', url, '--stream', log.stream], redis, ids: await log.add(events) }
}

const EVENTS: AuditEvent[] = [
  { event: 'audit.opened' },
  { event: 'url.minted', email: ANA, app: 'payroll', urlId: 'url-1', ip: '10.0.0.1', userAgent: 'Firefox/1' },
  { event: 'url.reused', email: ANA, app: 'payroll', urlId: 'url-1', ip: '10.0.0.2', userAgent: 'Firefox/1' },
  { event: 'url.denied', email: BEN, app: 'payroll', code: 'TOOLJET_EMBED_ACCESS_DENIED', ip: '10.0.0.3' },
  { event: 'url.minted', email: BEN, app: 'stock', urlId: 'url-2', ip: '10.0.0.3' },
  { event: 'url.limited', email: BEN, app: 'stock', code: 'TOOLJET_EMBED_RATE_LIMITED', ip: '10.0.0.3' },
]

test('help tells of every command, option and exit code', async (t) => {
  const overall = await cli(['--help'])
  t.match(overall, { code: 0, stderr: '' })
  t.match(overall.stdout, /Exit codes:\n {2}0 .*\n {2}1 .*\n {2}2 .*\n {2}3 /)
  t.equal((await cliHere(['--help'])).stdout, overall.stdout)
  const options = { query: ['email', 'limit', 'order', 'after', 'json'], tail: ['email', 'last'], stats: ['by', 'email'], verify: ['key-file'], export: ['after', 'out', 'email'] }
  for (const [command, names] of Object.entries(options)) {
    t.match(overall.stdout, new RegExp(`^ {2}${command} `, 'm'))
    const { code, stdout } = await cliHere([command, '-h'])
    t.equal(code, 0)
    t.match(stdout, new RegExp(`^# |Examples:\\n {2}# .*\\n {2}tooljet-embed-audit ${command} `, 'm'))
    for (const name of [...names, 'redis', 'stream']) t.match(stdout, new RegExp(`^ {2}--${name} `, 'm'))
    t.ok(stdout.split('\n').every((line) => line.length <= 120), 'lines are not too long')
  }
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }
  t.match(await cliHere(['--version']), { code: 0, stdout: `${version}\n` })
})

test('wrong usage is named, with what is accepted, and ends with 2', async (t) => {
  const { at } = await openLog(t, EVENTS)
  const cases: [args: string[], message: RegExp][] = [
    [[], /takes a command: query, tail, stats, verify, export/],
    [['qery'], /no command "qery", there are query, tail/],
    [['constructor'], /no command "constructor"/],
    [['query', '--emial', 'x'], /no option --emial here, query takes --email, /],
    [['--limit', '3'], /no option --limit here/],
    [['query', 'payroll'], /options only, and not "payroll"/],
    [['query', '--email'], /--email has no value; it takes EMAIL/],
    [['query', '--since', '--until', '1h'], /--since has no value; it takes TIME: .* 24h, 7d/],
    [['query', '--email='], /--email has no value/],
    [['query', '--json=1'], /--json takes no value/],
    [['query', '--limit', '1', '--limit', '2'], /--limit is there twice/],
    [['query', '--limit', '0'], /--limit is "0", it takes a whole number, 1 or more/],
    [['tail', '--last', 'x'], /--last is "x", it takes a whole number, 0 or more/],
    [['export', '--after', 'x'], /--after is "x", it takes the id of an event/],
    [['query', ...at, '--since', 'yesterday'], /: --since is "yesterday", it takes an ISO 8601 time, .* 7d$/m],
    [['query', ...at, '--event', 'minted'], /: --event is "minted", it takes url.minted, url.reused/],
    [['query', ...at, '--order', 'up'], /: --order is "up", it takes asc, desc$/m],
    [['stats', ...at, '--by', 'ip'], /: --by is "ip", it takes email, app, event, code, hour$/m],
    [['tail', ...at, '--outcome', 'bad'], /: --outcome is "bad", it takes success, failure$/m],
    [['export', ...at, '--until', '32'], /: --until is "32", it takes an ISO 8601 time/],
    [['verify', ...at], /needs the key that the plugin has: in --key-file, /],
    [['verify', ...at, '--key-file', '/nonexistent/key'], /\/nonexistent\/key: ENOENT/],
    [['query', '--redis', 'https://:hunter2@acme.test'], /--redis .* no redis:\/\/ or rediss:\/\/ URL/],
  ]
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await cliHere(args)
    t.equal(code, 2, args.join(' '))
    t.equal(stdout, '')
    t.match(stderr, message)
    t.match(stderr, /^tooljet-embed-audit .*--help tells more\n$/m)
    t.notMatch(stderr, /hunter2|usage:/)
  }
  const asProcess = await cli(['query', 'redis://:hunter2/3@acme.test'])
  t.match(asProcess, { code: 2, stdout: '', stderr: /not "redis:\/\/\*\*\*@acme.test"/ })
})

test('query: every filter, and how many in which order', async (t) => {
  const { at, ids: all } = await openLog(t, EVENTS)
  const cases: [args: string[], found: number[]][] = [
    [[], [5, 4, 3, 2, 1, 0]],
    [['--email', 'Ana@Acme.test'], [2, 1]],
    [['--app', 'payroll'], [3, 2, 1]],
    [['--event', 'url.minted'], [4, 1]],
    [['--outcome', 'failure'], [5, 3]],
    [['--code', 'ACCESS_DENIED'], [3]],
    [['--code', 'TOOLJET_EMBED_ACCESS_DENIED'], [3]],
    [['--ip', '10.0.0.3'], [5, 4, 3]],
    [['--url-id', 'url-1'], [2, 1]],
    [['--app', 'payroll', '--outcome', 'failure'], [3]],
    [['--since', '1h', '--limit', '2'], [5, 4]],
    [['--until', '1h'], []],
    [['--since', String(Date.now() + 60_000)], []],
    [['--order', 'asc', '--limit', '2', '--after', all[1]!], [2, 3]],
    [['--limit', '2', '--after', all[4]!], [3, 2]],
    [['--email', BEN, '--order', 'asc', '--after', all[3]!], [4, 5]],
  ]
  for (const [args, found] of cases) {
    const { code, stdout, stderr } = await cliHere(['query', '--json', ...at, ...args])
    t.equal(code, 0)
    t.same(ids(stdout), found.map((i) => all[i]), args.join(' '))
    t.equal(stderr, '')
  }
  t.match(await cliHere(['query', ...at, '--email', 'nobody@acme.test']), { code: 0, stderr: /no event in .* matches/ })
})

test('query: lines of JSON have the id and all fields, more than one reply of them', async (t) => {
  const { at, log } = await openLog(t, Array.from({ length: 700 }, (_, i) => ({ event: 'url.reused', email: ANA, requestId: `r${i}` })))
  const { stdout } = await cli(['query', '--json', '--limit', '1000', '--order', 'asc', ...at])
  const expected = (await log.entries()).map(([id, flat]) => Object.fromEntries([['id', id], ...flat.flatMap((name, i) => (i % 2 === 0 ? [[name, flat[i + 1]!]] : []))]))
  t.same(parsed(stdout), expected)
  t.equal(Object.keys(parsed(stdout)[0]!)[0], 'id')
  const rows = (await cliHere(['query', '--limit', '600', ...at], { slow: true })).stdout.trim().split('\n')
  t.equal(rows.length, 601, 'a slow reader gets all')
  t.equal(rows.filter((row) => row.startsWith('TIME')).length, 1, 'and one header')
})

test('query: a table with every value in full where there is no terminal', async (t) => {
  const app = 'a-slug-that-is-much-longer-than-any-terminal-would-have-room-for-in-one-of-its-columns'
  const { at } = await openLog(t, [...EVENTS, { event: 'url.minted', email: ANA, app, userAgent: 'x'.repeat(200) }])
  const { code, stdout, stderr } = await cli(['query', ...at], { COLUMNS: '80' })
  t.match({ code, stderr }, { code: 0, stderr: '' })
  const [header, first] = stdout.split('\n') as [string, string]
  t.match(header, /^TIME \(UTC\) +EVENT +EMAIL +APP +CODE +IP +USER AGENT$/)
  t.match(first, new RegExp(`^\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d {2}url.minted +${ANA} +${app} +x{200}$`))
  t.match(stdout, /url.denied +ben@acme.test +payroll +ACCESS_DENIED +10.0.0.3\n/)
  t.notMatch(visible(stdout), '<ESC>', 'no colour')
})

test('query: on a terminal columns fit, and failures stand out', pty, async (t) => {
  const { at } = await openLog(t, [...EVENTS, { event: 'url.failed', email: ANA, app: 'x'.repeat(150), code: 'TOOLJET_EMBED_TIMEOUT', userAgent: 'y'.repeat(200) }])
  const { code, stdout } = await cliOnTerminal(['query', ...at])
  t.equal(code, 0)
  t.match(visible(stdout), '<ESC>[31murl.denied')
  const lines = (text: string) => stripVTControlCharacters(text).trim().split('\r\n')
  t.ok(lines(stdout).every((line) => line.length <= 100), 'as wide as the terminal')
  t.match(lines(stdout)[1], /url.failed +ana@acme.test +x+… +TIMEOUT +y+…/)
  const narrow = await cliOnTerminal(['query', ...at], {}, 'stty cols 50')
  t.ok(lines(narrow.stdout).every((line) => line.length <= 50))
  t.match(lines(narrow.stdout)[0], /^TIME \(UTC\) +EVENT +EMAIL *$/, 'what has no room is left out')
  t.match(await cliOnTerminal(['query', '--limit', '2', ...at]), { stdout: /there may be more: go on with --after \d+-\d+/ })
  for (const env of [{ NO_COLOR: '1' }, { TERM: 'dumb' }]) {
    const plain = await cliOnTerminal(['query', ...at], env)
    t.notMatch(visible(plain.stdout), '<ESC>')
    t.match(plain.stdout, /url\.denied/)
  }
})

test('what a client chose never steers the terminal', async (t) => {
  const { at, log } = await openLog(t, [{ event: 'url.minted', email: ANA, app: ESCAPES, userAgent: `日本${ESCAPES}🙂é` }])
  const instance = `evil${ESCAPES}`
  await log.add([{ event: 'audit.opened', instance }, { event: 'url.reused', app: ESCAPES, instance }, { event: 'audit.closed', instance }])
  const steering = /[\p{Cc}\p{Cf}\p{Zl}]/u
  const outputs = {
    query: await cliHere(['query', ...at]),
    queryOnTerminal: await cliHere(['query', ...at], { isTTY: true, columns: 110, env: { NO_COLOR: '1' } }),
    json: await cliHere(['query', '--json', ...at]),
    export: await cliHere(['export', ...at]),
    stats: await cliHere(['stats', '--by', 'app', ...at]),
    statsJson: await cliHere(['stats', '--by', 'app', '--json', ...at]),
    verify: await cliHere(['verify', ...at], { env: { TOOLJET_EMBED_ENCRYPTION_KEY: 'another' } }),
    verifyJson: await cliHere(['verify', '--json', ...at], { env: { TOOLJET_EMBED_ENCRYPTION_KEY: 'another' } }),
    tail: await cliHere(['tail', '--last', '5', ...at], { signal: AbortSignal.timeout(500) }),
    usage: await cliHere(['query', `--${ESCAPES}`, ...at]),
    refused: await cliHere(['query', '--event', ESCAPES, ...at]),
  }
  for (const [name, { stdout, stderr }] of Object.entries(outputs)) {
    t.notMatch((stdout + stderr).replaceAll('\n', ''), steering, name)
    t.match(stdout + stderr, /pwned/, `${name} has it, visibly`)
  }
  t.match(outputs.query.stdout, /\\x1b\]0;pwned\\x07\\x1b\[2J\\x9b31m\\u\{202e\}gnp\.exe\\u\{2028\}\\u\{e0001\}/)
  t.equal(parsed(outputs.json.stdout).at(-1)!['user_agent'], `日本${ESCAPES}🙂é`, 'a parser gets it as it was')
  t.match(outputs.queryOnTerminal.stdout.split('\n').at(-2), / {2}日本\\x1/)
})

test('stats: counts, reuse rate and users, of a group and in all', async (t) => {
  const { at } = await openLog(t, [...EVENTS, EVENTS[2]!])
  t.match(await cliHere(['stats', '--by', 'app', ...at]), {
    code: 0,
    stdout: /^APP +EVENTS +MINTED +REUSED +REFUSED +REUSE RATE +USERS\npayroll +4 +1 +2 +1 +66\.7 % +2\nstock +2 +1 +0 +1 +0\.0 % +1\ntotal +6 +2 +2 +2 +50\.0 % +2\n$/,
  })
  const { stdout } = await cli(['stats', '--by', 'email', '--json', '--app', 'payroll', ...at])
  t.same(parsed(stdout), [
    { email: ANA, events: 3, minted: 1, reused: 2, refused: 0, reuse_rate: 0.667, users: 1 },
    { email: BEN, events: 1, minted: 0, reused: 0, refused: 1, users: 1 },
    { total: true, events: 4, minted: 1, reused: 2, refused: 1, reuse_rate: 0.667, users: 2 },
  ])
  t.match(await cliHere(['stats', '--by', 'code', ...at]), { stdout: /\nACCESS_DENIED +1 +0 +0 +1 +1\n/ })
  t.match(await cliHere(['stats', ...at]), { stdout: /^EVENT [^]*\nurl.minted +2 / }, 'by event unless told otherwise')
})

test('stats: on a terminal a line tells how far it is', async (t) => {
  const { at } = await openLog(t, Array.from({ length: 600 }, () => ({ event: 'url.reused', email: ANA })))
  const { stdout, stderr } = await cliHere(['stats', '--by', 'hour', ...at], { isTTY: true, columns: 100 })
  t.match(stripVTControlCharacters(stdout), /\n\d{4}-\d\d-\d\dT\d\d:00Z +600 /)
  t.match(visible(stderr), /<CR>counted up to \d{4}-\d\d-\d\d \d\d:\d\d<ESC>\[K.*<CR><ESC>\[K$/)
})

test('a log with pseudonyms: a person is found by the e-mail, with the key', async (t) => {
  const pseudonyms = new Pseudonyms(await deriveKeys([KEY], 'audit identity'))
  const { at, ids: all } = await openLog(t, [pseudonyms.disguise(EVENTS[1]!), pseudonyms.disguise(EVENTS[3]!), EVENTS[2]!])
  const keyFile = join(scratch(t), 'keys')
  writeFileSync(keyFile, `newer\n\n${KEY}\r\n`)
  const found = async (args: string[], env: NodeJS.ProcessEnv = {}) => ids((await cliHere(['query', '--json', '--email', 'Ana@acme.test', ...at, ...args], { env })).stdout)
  t.same(await found([]), [all[2]], 'without the key only what names her')
  t.same(await found([], { TOOLJET_EMBED_ENCRYPTION_KEY: KEY }), [all[2], all[0]])
  t.same(await found([], { TOOLJET_API_TOKEN: KEY }), [all[2], all[0]])
  t.same(await found(['--key-file', keyFile], { TOOLJET_API_TOKEN: 'other' }), [all[2], all[0]], 'any key of the file, which comes first')
  t.match(await cliHere(['stats', '--by', 'app', '--json', '--email', ANA, ...at], { env: { TOOLJET_API_TOKEN: KEY } }), { stdout: /"app":"payroll","events":2/ })
  writeFileSync(keyFile, '\n')
  t.match(await cliHere(['query', '--email', ANA, '--key-file', keyFile, ...at]), { code: 2, stderr: /--key-file: there is no key in/ })
})

test('verify: an intact log, and each way to tamper with one', async (t) => {
  const { at, log, redis, ids: [, , third, fourth] } = await openLog(t, [...EVENTS, { event: 'audit.opened', instance: 'web-2' }, { event: 'audit.closed', instance: 'web-2' }])
  const env = { TOOLJET_EMBED_ENCRYPTION_KEY: KEY }
  const intact = await cli(['verify', ...at], env)
  t.match(intact, { code: 0, stdout: /^8 events of 2 instances, 1 instance not closed\nintact: .*\n$/, stderr: '' })
  t.notMatch(intact.stdout + intact.stderr, KEY)

  const entries = await log.entries()
  const rewrite = async (changed: [id: string, fields: string[]][]) => {
    await redis.del(log.stream)
    for (const [id, fields] of changed) await redis.xadd(log.stream, id, ...fields)
  }
  await rewrite(entries.filter(([id]) => id !== third))
  t.match(await cli(['verify', ...at], env), { code: 1, stdout: new RegExp(`^PROBLEM +INSTANCE +SEQ +ID +DETAIL\ngap +web-1 +3 +${fourth} +seq 3 is missing\n[^]*NOT intact: 1 problem\n$`) })
  await rewrite(entries.map(([id, fields]) => [id, id === third ? fields.map((value) => (value === '10.0.0.2' ? '10.9.9.9' : value)) : fields]))
  t.match(await cliHere(['verify', ...at], { env }), { code: 1, stdout: new RegExp(`\nforged +web-1 +3 +${third} `) })
  const json = parsed((await cliHere(['verify', '--json', ...at], { env })).stdout)
  t.match(json[0], { kind: 'forged', instance: 'web-1', seq: 3, id: third, detail: /./ })
  t.match(json.at(-1), { ok: false, events: 8, problems: json.length - 1, instances: [{ instance: 'web-1', problems: json.length - 1 }, { instance: 'web-2', events: 2, closed: true, problems: 0 }] })
  await rewrite([...entries, [`${Date.now() + 1000}-0`, entries[2]![1]]])
  t.match(await cliHere(['verify', ...at], { env }), { code: 1, stdout: /\nduplicate +web-1 +3 / })
  await rewrite([['1-0', ['event', 'url.minted']], ...entries])
  t.match(await cliHere(['verify', ...at], { env }), { code: 1, stdout: /\n\S+ +\? +1-0 / }, 'one without a seq')
  await rewrite(entries.slice(2))
  t.match(await cliHere(['verify', ...at], { env }), { code: 0, stdout: /1 instance whose first events are no longer in the log[^]*\nintact/ })
  await rewrite(entries)
  const last = entries.at(-1)![0]
  await redis.xdel(log.stream, last)
  t.match(await cliHere(['verify', ...at], { env }), { code: 1, stdout: new RegExp(`^deleted: .* ${last}\n[^]*NOT intact\n$`) })
  t.match(parsed((await cliHere(['verify', '--json', ...at], { env })).stdout), [{ ok: false, stream: { removed: 1, deleted: last }, problems: 0 }])
  await rewrite(entries)
  t.match(await cliHere(['verify', ...at], { env: { TOOLJET_API_TOKEN: 'wrong' } }), { code: 1, stdout: /NOT intact/, stderr: /no mac fits: is this the key/ })
  await redis.del(log.stream)
  t.match(await cliHere(['verify', ...at], { env }), { code: 1, stdout: '', stderr: /no event in .*: nothing to verify/ })
})

test('verify: on a terminal a line tells how far it is', pty, async (t) => {
  const { at } = await openLog(t, Array.from({ length: 3000 }, () => ({ event: 'url.reused' })))
  const { code, stdout } = await cliOnTerminal(['verify', ...at], { TOOLJET_EMBED_ENCRYPTION_KEY: KEY })
  t.equal(code, 0)
  t.match(visible(stdout), /<CR>verified [\d,]+ of 3,000 events \(\d+ %\), [\d,]+\/s<ESC>\[K/)
  t.match(visible(stdout), /<CR><ESC>\[K3,000 events of 1 instance, 1 instance not closed<CR>\n<ESC>\[32mintact/, 'and is taken away')
})

test('the packed package has the program, and npm can link it', async (t) => {
  const { at, ids: all } = await openLog(t, EVENTS)
  const folder = builtPackage()
  execFileSync('npm', ['pack', '--ignore-scripts', '--loglevel=error', '--pack-destination', folder], { cwd: folder, stdio: 'ignore', env: cliEnv({}) })
  const { name, version, bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name: string, version: string, bin: Record<string, string> }
  const packed = join(folder, 'consumer', 'node_modules', name)
  mkdirSync(packed, { recursive: true })
  execFileSync('tar', ['-xzf', join(folder, `${name}-${version}.tgz`), '-C', packed, '--strip-components=1'])
  const program = join(packed, bin['tooljet-embed-audit']!)
  t.ok(existsSync(join(packed, 'dist', 'tooljet_embed.lua')))
  t.match(readFileSync(program, 'utf8'), /^#!\/usr\/bin\/env node\n/)
  t.ok(statSync(program).size < 2000, 'it loads the rest when it is needed')
  t.match(await ended(process.execPath, [program, '--version'], {}), { code: 0, stdout: `${version}\n`, stderr: '' })
  const { stdout } = await ended(process.execPath, [program, 'query', '--json', '--email', ANA, ...at], {})
  t.same(ids(stdout), [all[2], all[1]])
  t.equal(createHash('sha256').update(readFileSync(program)).digest('hex'), createHash('sha256').update(readFileSync(join(folder, 'dist', 'cli', 'main.js'))).digest('hex'))
})
