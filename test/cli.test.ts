import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { dirname, join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { gzipSync } from 'node:zlib'
import type { Redis } from 'ioredis'
import { t as tap, test, type Test } from 'tap'
import { AuditKeys } from '../plugin/audit/audit-keys.js'
import type { AuditEvent, AuditEventName } from '../plugin/audit/event.js'
import { loadLibrary } from '../plugin/audit/functions.js'
import { reindex } from '../plugin/audit/reindex.js'
import { Pseudonyms } from '../plugin/audit/pseudonyms.js'
import { COMMANDS } from '../plugin/cli/audit/command-list.js'
import { ECS_VERSION } from '../plugin/cli/audit/ecs.js'
import { resolveFilters } from '../plugin/cli/audit/filters.js'
import type { Output } from '../plugin/cli/output.js'
import { parseTime } from '../plugin/cli/times.js'
import { deriveKeys } from '../plugin/crypto/secret-keys.js'
import type { RedisLike } from '../plugin/redis/redis-like.js'
import { builtPackage, cli, cliEnv, cliHere, cliOnTerminal, ended, HAS_SCRIPT, ids, KEY, Log, auditFile, parsed, scratch, visible } from './support/cli.js'
import { blocksOf, sectionOf } from './support/markdown.js'
import { API_TOKEN, newPrefix, Portal, releaseRedisAfter } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { keysOf, sharedRedisUrl } from './support/redis.js'

releaseRedisAfter(tap)

const ANA = 'ana@acme.test'
const BEN = 'ben@acme.test'
const ESCAPES = '\u001b]0;pwned\u0007\u001b[2J\u009b31m\u202egnp.exe\u2028\u{e0001}'
const env = { TOOLJET_EMBED_ENCRYPTION_KEY: KEY }
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
  t.match(overall.stdout, /Exit codes:\n {2}0 .*\n {2}1 .*\n {2}2 .*\n {2}3 .*\n {2}70 /)
  t.equal((await cliHere(['--help'])).stdout, overall.stdout)
  const options = { query: ['email', 'limit', 'order', 'after', 'json'], tail: ['email', 'last'], stats: ['by', 'email'], verify: ['log', 'retention', 'max-entries', 'key-file'], export: ['format', 'after', 'out', 'state', 'email'] }
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
  const keyFile = join(scratch(t), 'key')
  writeFileSync(keyFile, KEY)
  const cases: [args: string[], message: RegExp][] = [
    [[], /the command is missing, expected one of query, tail, stats, (?:\w+, )*verify, export/],
    [['qery'], /unknown command "qery", expected one of query, tail/],
    [['constructor'], /unknown command "constructor"/],
    [['query', '--emial', 'x'], /unknown option --emial, expected one of --email, /],
    [['--limit', '3'], /unknown option --limit, expected one of --version/],
    [['query', 'payroll'], /unexpected argument "payroll", query has options only/],
    [['query', '--email'], /--email has no value, expected EMAIL/],
    [['query', '--since', '--until', '1h'], /--since has no value, expected TIME: .* 24h, 7d/],
    [['query', '--email='], /--email has no value/],
    [['query', '--json=1'], /--json takes no value/],
    [['query', '--limit', '1', '--limit', '2'], /--limit is there twice/],
    [['query', '--limit', '0'], /--limit is "0", expected a whole number, 1 or more/],
    [['tail', '--last', 'x'], /--last is "x", expected a whole number, 0 or more/],
    [['export', '--after', 'x'], /--after is "x", expected the id of an event/],
    [['query', ...at, '--since', 'lately'], /: --since is "lately", expected ISO 8601 .*, 24h, 7d\), or a local time: 22:00, today, yesterday/],
    [['query', ...at, '--until', '24:59'], /: --until is "24:59", expected ISO 8601/],
    [['query', ...at, '--since', '2h', '--until', '3h'], /: --until 3h is not after --since 2h, nothing is between them/],
    [['query', ...at, '--code', 'ACESS_DENIED'], /: --code is "ACESS_DENIED", which is no code of .* in the log has it; there are UNAUTHENTICATED, BAD_REQUEST, .*ACCESS_DENIED, /],
    [['query', ...at, '--event', 'minted'], /: --event is "minted", expected one of url.minted, url.reused/],
    [['query', ...at, '--order', 'up'], /: --order is "up", expected one of asc, desc$/m],
    [['stats', ...at, '--by', 'ip'], /: --by is "ip", expected email, app, event, code, hour, or two of them like hour,app$/m],
    [['tail', ...at, '--outcome', 'bad'], /: --outcome is "bad", expected one of success, failure$/m],
    [['export', ...at, '--until', '32'], /: --until is "32", expected ISO 8601/],
    [['export', '--format', 'xml'], /: --format is "xml", expected one of ndjson, ecs$/m],
    [['export', '--state', 'position'], /: --state goes with --out/],
    [['verify', ...at, '--log'], /--log has no value, expected FILE\.\.\.: /],
    [['verify', '--log', 'a', 'b', '--json', 'c'], /unexpected argument "c", verify has options only/],
    [['verify', ...at, '--key-file', keyFile, '--log', '/nonexistent/log'], /--log \/nonexistent\/log: ENOENT/],
    [['verify', '--key-file', keyFile, '--retention', '90'], /--retention is "90", expected a number of days, like 90d/],
    [['verify', '--key-file', keyFile, '--max-entries', '-1'], /--max-entries has no value/],
    [['verify', '--key-file', keyFile, '--max-entries', '1e6'], /--max-entries is "1e6", expected a whole number, 0 or more/],
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
  t.match(asProcess, { code: 2, stdout: '', stderr: /unexpected argument "redis:\/\/\*\*\*@acme.test"/ })
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
    [['--code', 'tooljet_embed_access_denied'], [3]],
    [['--code', 'access_Denied'], [3]],
    [['--code', 'TIMEOUT'], []],
    [['--code', 'FST_ERR_VALIDATION'], []],
    [['--code', 'ERROR'], []],
    [['--code', 'HTTP_429'], []],
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
    t.equal(stderr, args.includes('--limit') ? `more events match: --limit N for more than 2, or --after ${all[found.at(-1)!]}\n` : '')
  }
  for (const args of [['--limit', '6'], ['--limit', '3', '--ip', '10.0.0.3'], ['--limit', '3', '--after', all[3]!]]) t.equal((await cliHere(['query', ...at, ...args])).stderr, '', 'that was all')
  t.match(await cliHere(['query', ...at, '--email', 'nobody@acme.test']), { code: 0, stderr: /no event in .* matches/ })
})

test('query: lines of JSON have the id and all fields, more than one reply of them', async (t) => {
  const { at, log } = await openLog(t, Array.from({ length: 700 }, (_, i) => ({ event: 'url.reused', email: ANA, requestId: `r${i}` })))
  const { stdout } = await cli(['query', '--json', '--limit', '1000', '--order', 'asc', ...at])
  const expected = (await log.entries()).map(([id, flat]) => Object.fromEntries([['id', id], ...flat.flatMap((name, i) => (i % 2 === 0 ? [[name, flat[i + 1]!]] : []))]))
  t.same(parsed(stdout), expected)
  t.equal(Object.keys(parsed(stdout)[0]!)[0], 'id')
  t.match((await cliHere(['query', ...at])).stderr, /^more events match: --limit N for more than 100, or --after \d+-\d+\n$/, 'without a limit of one\'s own')
  const rows = (await cliHere(['query', '--limit', '600', ...at], { slow: true })).stdout.trim().split('\n')
  t.equal(rows.length, 601, 'a slow reader gets all')
  t.equal(rows.filter((row) => row.startsWith('TIME')).length, 1, 'and one header')
})

test('query: a table with every value in full where there is no terminal', async (t) => {
  const app = 'a-slug-that-is-much-longer-than-any-terminal-would-have-room-for-in-one-of-its-columns'
  const { at } = await openLog(t, [
    ...EVENTS,
    { event: 'url.limited', email: ANA, code: 'TOOLJET_EMBED_RATE_LIMITED', count: 11 },
    { event: 'url.denied', email: ANA, code: 'TOOLJET_EMBED_EMAIL_MISMATCH', reason: 'other_user', target: BEN },
    { event: 'url.forgotten', email: BEN, by: 'omar@acme.test', reason: 'left the company' },
    { event: 'url.minted', email: ANA, app, userAgent: 'x'.repeat(200) },
  ])
  const { code, stdout, stderr } = await cli(['query', ...at], { COLUMNS: '80' })
  t.match({ code, stderr }, { code: 0, stderr: '' })
  const [header, first] = stdout.split('\n') as [string, string]
  t.match(header, /^TIME \(UTC\) +EVENT +EMAIL +APP +CODE, DETAILS +IP +USER AGENT$/)
  t.match(first, new RegExp(`^\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d {2}url.minted +${ANA} +${app} +x{200}$`))
  t.match(stdout, /url.denied +ben@acme.test +payroll +ACCESS_DENIED +10.0.0.3\n/)
  t.match(stdout, /url.limited +ana@acme.test +RATE_LIMITED x11\n/)
  t.match(stdout, /url.denied +ana@acme.test +EMAIL_MISMATCH for ben@acme.test other_user\n/)
  t.match(stdout, /url.forgotten +ben@acme.test +by omar@acme.test left the company\n/)
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
  t.match(await cliOnTerminal(['query', '--limit', '2', ...at]), { stdout: /more events match: --limit N for more than 2, or --after \d+-\d+/ })
  for (const env of [{ NO_COLOR: '1' }, { TERM: 'dumb' }]) {
    const plain = await cliOnTerminal(['query', ...at], env)
    t.notMatch(visible(plain.stdout), '<ESC>')
    t.match(plain.stdout, /url\.denied/)
  }
})

test('what a client chose never steers the terminal', async (t) => {
  const { at, log, redis } = await openLog(t, [{ event: 'url.minted', email: ANA, app: ESCAPES, userAgent: `日本${ESCAPES}🙂é` }])
  const instance = `evil${ESCAPES}`
  const [, second] = await log.add([{ event: 'audit.opened', instance }, { event: 'url.minted', instance }, { event: 'url.reused', app: ESCAPES, instance }, { event: 'audit.closed', instance }])
  await redis.xdel(log.stream, second!)
  const steering = /[\p{Cc}\p{Cf}\p{Zl}]/u
  const outputs = {
    query: await cliHere(['query', ...at]),
    queryOnTerminal: await cliHere(['query', ...at], { isTTY: true, columns: 110, env: { NO_COLOR: '1' } }),
    json: await cliHere(['query', '--json', ...at]),
    export: await cliHere(['export', ...at]),
    stats: await cliHere(['stats', '--by', 'app', ...at]),
    statsJson: await cliHere(['stats', '--by', 'app', '--json', ...at]),
    verify: await cliHere(['verify', ...at], { env }),
    verifyJson: await cliHere(['verify', '--json', ...at], { env }),
    exportEcs: await cliHere(['export', '--format', 'ecs', ...at]),
    unknownCode: await cliHere(['query', '--code', ESCAPES, ...at]),
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
  t.match(await cliHere(['stats', '--by', 'app', '--app', 'payroll', ...at]), {
    code: 0,
    stdout: /^APP +EVENTS +MINTED +REUSED +REFUSED +REUSE RATE +USERS\npayroll +4 +1 +2 +1 +66\.7 % +2\ntotal +4 +1 +2 +1 +66\.7 % +2\n$/,
  })
  const { stdout } = await cli(['stats', '--by', 'email', '--json', '--app', 'payroll', ...at])
  t.same(parsed(stdout), [
    { email: ANA, events: 3, minted: 1, reused: 2, refused: 0, reuse_rate: 0.667, users: 1 },
    { email: BEN, events: 1, minted: 0, reused: 0, refused: 1, users: 1 },
    { total: true, events: 4, minted: 1, reused: 2, refused: 1, reuse_rate: 0.667, users: 2 },
  ])
  t.match(await cliHere(['stats', '--by', 'app', ...at]), {
    code: 0,
    stdout: /^APP +EVENTS +MINTED +REUSED +REFUSED +REUSE RATE\npayroll +4 +1 +2 +1 +66\.7 %\n- +2 +0 +0 +1\nstock +1 +1 +0 +0 +0\.0 %\ntotal +7 +2 +2 +2 +50\.0 %\n$/,
  }, 'without filters: of the counters, which know no users')
  t.match(await cliHere(['stats', '--by', 'code', '--users', ...at]), { stdout: /\nACCESS_DENIED +1 +0 +0 +1 +1\n/ })
  t.match(await cliHere(['stats', ...at]), { stdout: /^EVENT [^]*\nurl.minted +2 / }, 'by event unless told otherwise')
})

test('stats: on a terminal a line tells how far it is', async (t) => {
  const { at } = await openLog(t, Array.from({ length: 600 }, () => ({ event: 'url.reused', email: ANA })))
  const { stdout, stderr } = await cliHere(['stats', '--by', 'hour', '--users', ...at], { isTTY: true, columns: 100 })
  t.match(stripVTControlCharacters(stdout), /\n\d{4}-\d\d-\d\dT\d\d:00Z +600 /)
  t.match(visible(stderr), /<CR>counted up to \d{4}-\d\d-\d\d \d\d:\d\d<ESC>\[K.*<CR><ESC>\[K$/)
})

test('a log with pseudonyms: a person is found by the e-mail, with the key', async (t) => {
  const pseudonyms = new Pseudonyms(await deriveKeys([KEY], 'audit identity'))
  const { at, ids: all } = await openLog(t, [pseudonyms.pseudonymize(EVENTS[1]!), pseudonyms.pseudonymize(EVENTS[3]!), EVENTS[2]!])
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

test('a log with pseudonyms: nobody found without the key, or with another one, is no answer', async (t) => {
  const pseudonyms = new Pseudonyms(await deriveKeys([KEY], 'audit identity'))
  const { at, log, redis } = await openLog(t, EVENTS.map((event) => pseudonyms.pseudonymize(event)))
  const commands = [['query'], ['query', '--json'], ['stats'], ['stats', '--by', 'app', '--json'], ['tail', '--last', '1'], ['export'], ['export', '--out', join(scratch(t), 'audit.ndjson')]]
  const run = (args: string[], email: string, env: NodeJS.ProcessEnv, ...more: string[]) => cliHere([...args, '--email', email, ...at, ...more], { env, signal: AbortSignal.timeout(1000) })
  for (const args of commands) {
    t.match(await run(args, ANA, {}), { code: 2, stdout: '', stderr: /this log does not name people: --email needs the key/ }, args.join(' '))
    t.match(await run(args, ANA, { TOOLJET_API_TOKEN: 'another' }), { code: 2, stdout: '', stderr: /does not name people, and the key is not the one/ }, args.join(' '))
    t.match(await run(args, 'nobody@acme.test', env), { code: 0, stderr: /^(?:no event in .* matches\n)?$/ }, `${args.join(' ')}: really nobody`)
  }
  t.match(await run(['query'], pseudonyms.of(ANA), {}), { code: 0, stdout: /payroll/, stderr: '' }, 'a pseudonym is found without a key')
  await log.add([EVENTS[1]!])
  t.match(await run(['query'], ANA, {}), { code: 0, stdout: /payroll/, stderr: /^this log does not name people/ }, 'what names her, and that there may be more')
  t.match(await run(['stats'], ANA, {}), { code: 0, stdout: /total/, stderr: /^this log does not name people/ })

  const name = log.stream
  at[3] = `${name}:old`
  await redis.rename(name, at[3])
  t.match(await run(['query'], 'nobody@acme.test', env), { code: 2, stderr: /renamed give --name/ })
  t.match(await run(['query'], 'nobody@acme.test', env, '--name', name), { code: 0 })
})

const TIME = '\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z'

test('verify: an intact log, and each way to tamper with one', async (t) => {
  const { at, log, redis, ids: [, , third, fourth] } = await openLog(t, [{ ...EVENTS[0]!, retention: '90d/1000000' }, ...EVENTS.slice(1), { event: 'audit.opened', instance: 'web-2' }, { event: 'audit.closed', instance: 'web-2' }])
  const intact = await cli(['verify', ...at], env)
  t.match(intact, { code: 0, stdout: new RegExp(`^8 events of 2 instances, 1 instance not closed\nsince ${TIME}, newest ${TIME}, 0 entries trimmed; kept for 90 days, the newest 1,000,000 entries\nintact: .*\n$`), stderr: '' })
  t.notMatch(intact.stdout + intact.stderr, KEY)

  const entries = await log.entries()
  const rewrite = async (changed: [id: string, fields: string[]][]) => {
    await redis.del(log.stream)
    for (const [id, fields] of changed) await redis.xadd(log.stream, id, ...fields)
    await reindex(redis, log.stream)
  }
  await rewrite(entries.filter(([id]) => id !== third))
  t.match(await cli(['verify', ...at], env), { code: 1, stdout: new RegExp(`^PROBLEM +INSTANCE +SEQ +ID +DETAIL\ngap +web-1 +3 +${fourth} +seq 3 is missing\n[^]*NOT intact: 1 problem\n$`) })
  await rewrite(entries.map(([id, fields]) => [id, id === third ? fields.map((value) => (value === '10.0.0.2' ? '10.9.9.9' : value)) : fields]))
  t.match(await cliHere(['verify', ...at], { env }), { code: 1, stdout: new RegExp(`\nforged +web-1 +3 +${third} [^]*\n7 events of 2 instances, 1 other entry, 1 instance not closed\n`) })
  const json = parsed((await cliHere(['verify', '--json', ...at], { env })).stdout)
  t.match(json[0], { kind: 'forged', instance: 'web-1', seq: 3, id: third, detail: /./ })
  t.match(json.at(-1), { ok: false, events: 7, entries: 8, since: new RegExp(TIME), until: new RegExp(TIME), trimmed: 0, retention: { retentionMs: 90 * 86_400_000, maxEntries: 1_000_000 }, problems: json.length - 1, instances: [{ instance: 'web-1', events: 5 }, { instance: 'web-2', events: 2, closed: true }] })
  await rewrite([...entries, [`${Date.now() + 1000}-0`, entries[2]![1]]])
  t.match(await cliHere(['verify', ...at], { env }), { code: 1, stdout: /\nduplicate +web-1 +3 / })
  await rewrite([['1-0', ['event', 'url.minted']], ...entries])
  t.match(await cliHere(['verify', ...at], { env }), { code: 1, stdout: /\nforged +1-0 +it has no mac\n/ }, 'one without a seq')
  await rewrite(entries)
  const last = entries.at(-1)![0]
  await redis.xdel(log.stream, last)
  t.match(await cliHere(['verify', ...at], { env }), { code: 1, stdout: new RegExp(`\ndeleted +${last} [^]*, 1 entry trimmed or deleted; [^]*NOT intact: \\d problems?\n$`) })
  await rewrite(entries)
  for (const args of [[], ['--json']]) {
    const wrong = await cliHere(['verify', ...args, ...at], { env: { TOOLJET_API_TOKEN: 'wrong' } })
    t.equal(wrong.code, 1)
    t.equal((wrong.stdout + wrong.stderr).match(/of this key/g)!.length, 1, 'a wrong key is said once')
    t.notMatch(wrong.stdout + wrong.stderr, /forged/)
  }
  await redis.del(log.stream)
  t.match(await cliHere(['verify', ...at], { env }), { code: 1, stdout: '', stderr: /no event in .*: nothing to verify/ })
})

test('verify: what is gone at the start is judged by the retention, which options override', async (t) => {
  const { at, log, redis } = await openLog(t)
  const day = 86_400_000
  const now = Date.now()
  const ids = await log.add([{ event: 'audit.opened', retention: '30d/1000', at: now - 40 * day }, ...[39, 20, 1].map((days) => ({ event: 'url.reused', at: now - days * day } as const))])
  const verified = (...args: string[]) => cliHere(['verify', ...args, ...at], { env })
  await redis.xtrim(log.stream, 'MINID', ids[2]!)
  await reindex(redis, log.stream)
  t.match(await verified(), { code: 1, stdout: /\nerased [^]*\n2 events of 1 instance,[^]* 1 instance whose first events are no longer in the log, [^]* 2 entries trimmed; no event tells the retention, taken to be kept for 90 days, the newest 1,000,000 entries\n/, stderr: /^no audit\.opened tells what was kept: say it with --retention and --max-entries/ }, 'without an audit.opened: the defaults')
  t.match(await verified('--retention', '30d'), { code: 0, stdout: /kept for 30 days, the newest 1,000,000 entries\nintact/ })
  t.match(await verified('--retention', '39.5d'), { code: 1, stdout: /\nerased +web-1 +1 .*does not explain[^]*kept for 39.5 days/ })
  t.match(await verified('--retention', '0d'), { code: 1, stdout: /erased[^]*kept for ever, the newest 1,000,000 entries\n/ })
  t.match(await verified('--retention', '0d', '--max-entries', '2'), { code: 0, stdout: /kept for ever, the newest 2 entries\n/ }, 'it is full')
  t.match(await verified('--retention', '0d', '--max-entries', '0'), { code: 1, stderr: '', stdout: /trimmed; kept for ever, any number of entries\n/ })
})

test('verify: instances with another key, beside some that fit', async (t) => {
  const { at, log, redis } = await openLog(t, EVENTS)
  const other = (await log.entries()).map(([, fields]) => fields.map((value, i) => (fields[i - 1] === 'instance' ? 'other-1' : value)))
  for (const fields of other) await redis.xadd(log.stream, '*', ...fields)
  t.match(await cliHere(['verify', ...at], { env }), { code: 1, stdout: /NOT intact: \d+ problems/, stderr: /^not one event of 1 instance has a mac of this key \(other-1\): registrations which share a stream need a common encryptionKey/ })
  await redis.xadd(log.stream, '*', ...(await log.entries())[0]![1].with(1, 'x'))
  t.equal((await cliHere(['verify', ...at], { env })).stderr.match(/not one event of 1 instance/g)!.length, 1, 'one whose other events fit is no such instance')
})

test('verify: an index that somebody deleted, until a reindex', async (t) => {
  const { at, log, redis } = await openLog(t, EVENTS)
  const verified = () => cliHere(['verify', ...at], { env })
  t.match(await verified(), { code: 0 })
  await redis.del(new AuditKeys(log.stream).email(ANA).key)
  t.match(await verified(), { code: 1, stdout: /\nindex .* run tooljet-embed-audit reindex\n/ })
  t.match(await cliHere(['reindex', ...at]), { code: 0, stdout: '6 events indexed\n' })
  t.match(await verified(), { code: 0, stdout: /indexes and counters fit/ })
})

test('verify: a log that was renamed, by the name under which it was written', async (t) => {
  const { at, log, redis } = await openLog(t, EVENTS)
  const file = join(scratch(t), 'app.log')
  writeFileSync(file, log.logged.map((fields) => pinoLine(fields)).join(''))
  const name = log.stream
  const archive = at[3] = `archive:{${name}}:2026`
  t.teardown(async () => { await redis.del(archive, ...new AuditKeys(archive).buckets, new AuditKeys(archive).index, new AuditKeys(archive).counts) })
  await redis.rename(name, archive)
  const verified = (...args: string[]) => cliHere(['verify', ...at, ...args], { env })
  t.match(await verified(), { code: 1, stdout: /NOT verified/ }, 'macs have the name in them')
  t.match(await verified('--name', name), { code: 1, stdout: /\nindex .* run tooljet-embed-audit reindex\n/ }, 'indexes stay behind')
  t.match(await cliHere(['reindex', ...at]), { code: 0 })
  t.match(await verified('--name', name, '--log', file), { code: 0, stdout: /6 events of 1 instance in the app's log\n[^]*\nintact/, stderr: '' })
})

test('verify: of very many problems the first thousand', async (t) => {
  const { at, redis, log } = await openLog(t, EVENTS)
  const pipeline = redis.pipeline()
  for (let i = 0; i < 1100; i++) pipeline.xadd(log.stream, '*', 'event', 'url.minted')
  await pipeline.exec()
  const { code, stdout, stderr } = await cliHere(['verify', ...at], { env })
  t.equal(code, 1)
  t.equal(stdout.match(/^forged/gm)!.length, 1000)
  t.match(stdout, /NOT intact: 1,1\d\d problems/)
  t.match(stderr, /these are the first 1,000 of 1,1\d\d problems/)
})

/** As pino writes it. */
function pinoLine (fields: object, level = 30): string {
  return `${JSON.stringify({ level, time: 1795372562534, pid: 7, hostname: 'web', tooljetEmbedAudit: fields, msg: 'tooljet-embed: url.minted' })}\n`
}

test('verify --log: what the log has and the stream lacks, and what only the stream has', async (t) => {
  const { at, log, redis } = await openLog(t, [...EVENTS, ...EVENTS.slice(1), { event: 'audit.opened', instance: 'web-2' }, { event: 'url.minted', instance: 'web-2' }])
  const folder = scratch(t)
  const lines = log.logged.map((fields) => pinoLine(fields))
  const fileOf = (name: string, content: string | Buffer): string => {
    writeFileSync(join(folder, name), content)
    return join(folder, name)
  }
  const entries = await log.entries()
  const whole = fileOf('whole.log', `{"level":30,"msg":"Server listening"}\n${lines.join('{"level":30,"req":{"id":"r1"}}\n')}`)
  const verified = (...args: string[]) => cliHere(['verify', ...at, ...args], { env })

  t.match(await verified('--log', whole), { code: 0, stdout: /^13 events of 2 instances, 2 instances not closed, 13 events of 2 instances in the app's log\n[^]*\nintact/, stderr: '' })
  const packed = fileOf('first.log.gz', gzipSync(lines.slice(0, 4).join('')))
  const rest = fileOf('rest.log', gzipSync(lines.slice(4).join('').trimEnd()))
  for (const args of [['--log', packed, rest], ['--log', packed, '--log', rest], ['--log', rest, packed, '--json']]) t.match(await verified(...args), { code: 0, stdout: /13 events of 2 instances in the app's log|"log":\{"events":13,/, stderr: '' }, args.join(' '))
  t.match(parsed((await verified('--log', packed, rest, '--json')).stdout).at(-1), { ok: true, log: { events: 13, instances: 2, invalid: 0 } })
  const passedOn = fileOf('passed-on.log', log.logged.map((fields, i) => `2026-11-26T04:00:00.1Z stdout F ${pinoLine(Object.fromEntries(Object.entries({ ...fields, host: 'web' }).sort()), i % 2 === 0 ? 30 : 50)}`).join('') + lines.join('').trimEnd())
  t.match(await verified('--log', passedOn), { code: 0, stdout: / 13 events of 2 instances in the app's log/, stderr: '' }, 'sorted, with more in it, each twice, and no newline at the end')

  const others = fileOf('others.log', [...lines, pinoLine({ ...log.logged[3]!, email: 'eve@acme.test' }), pinoLine({ event: 1 }), '{"tooljetEmbedAudit":null}\n', lines[2]!.slice(0, 90), `\n${'x'.repeat(1_100_000)}${pinoLine({ event: 1 })}`].join(''))
  t.match(await verified('--log', others), { code: 0, stdout: /\nintact/, stderr: /^4 lines of --log have an event that is not valid here, and were skipped/ })

  t.match(await verified('--log', fileOf('part.log', lines.filter((_, i) => ![4, 5, 8].includes(i)).join(''))), { code: 1, stdout: new RegExp(`\nunlogged +web-1 +5 +${entries[4]![0]} +seq 5 to 6 are in the stream, and not in the app's log\nunlogged +web-1 +9 [^]*NOT intact: 2 problems`) })
  t.match(await verified('--log', fileOf('middle.log', lines.slice(3, 7).join(''))), { code: 0 }, 'before and after what the log has nothing is judged')

  await redis.del(log.stream)
  for (const [id, fields] of entries.filter((_, i) => ![2, 3, 10, 12].includes(i))) await redis.xadd(log.stream, id, ...fields)
  await reindex(redis, log.stream)
  const found = parsed((await verified('--log', whole, '--json')).stdout).filter(({ kind }) => kind !== 'gap')
  t.match(found, [
    { kind: 'missing', instance: 'web-1', seq: 3, id: entries[4]![0], detail: /^seq 3 to 4 are in the app's log, of \d{4}-.*Z, and not in the stream$/ },
    { kind: 'missing', instance: 'web-1', seq: 11, detail: /^seq 11 is .* the stream: its last ones, .* killed/ },
    { kind: 'missing', instance: 'web-2', seq: 2, detail: /^seq 2 is / },
    { ok: false },
  ], 'the last ones too, of which the stream alone tells nothing')
  t.notOk('id' in found[1]!)
  t.match(await cliHere(['verify', ...at], { env }), { code: 1, stdout: /NOT intact: 1 problem/ })
  await redis.del(log.stream)
  t.match(await verified('--log', whole), { code: 1, stdout: /\nmissing +web-1 +1 .*\nmissing +web-2 +1 [^]*NOT intact: 2 problems/ }, 'the whole log was replaced by none')
  for (const [id, fields] of entries) await redis.xadd(log.stream, id, ...fields.with(1, 'x'))
  await redis.xadd(log.stream, '*', ...entries[0]![1])
  for (const [name, content] of [['empty', ''], ['foreign', '{"level":30}\n']] as const) {
    t.match(await verified('--log', fileOf(name, content)), { code: 1, stderr: /no event of this log is in the files of --log/ }, `${name}, beside what is wrong`)
  }
  await redis.del(log.stream)
  for (const [id, fields] of entries) await redis.xadd(log.stream, id, ...fields)
  await reindex(redis, log.stream)
  for (const name of ['empty', 'foreign']) {
    t.match(await verified('--log', join(folder, name)), { code: 1, stdout: /^(?![^]*intact:)[^]*NOT verified: no event of this log is in the files of --log/, stderr: '' }, name)
    t.match(await verified('--json', '--log', join(folder, name)), { code: 1, stdout: /"ok":false/, stderr: /no event of this log is in the files of --log/ }, name)
  }
  t.match(await verified('--log', fileOf('cut.gz', gzipSync(lines.join('')).subarray(0, 300))), { code: 2, stderr: /--log .*cut\.gz: unexpected end of file/ })
})

test('verify --log: the logs of portals that run', async (t) => {
  const [one, other] = await Portal.openSeveral(t, 2) as [Portal, Portal]
  for (const app of ['x'.repeat(255) + '😀', '\ud800', 'é'.repeat(300), 'a\u0000b"\\{\n']) await one.ask(ANA, { app })
  for (let i = 0; i < 3; i++) await Promise.all([one.ask(ANA), other.ask(ANA)])
  await other.app.close()
  const stream = `${one.prefix}audit`
  await one.audit()
  const count = await one.redis.xlen(stream)
  const folder = scratch(t)
  writeFileSync(join(folder, 'one.log'), one.logText)
  writeFileSync(join(folder, 'other.log.gz'), gzipSync(other.logText))
  const url = await sharedRedisUrl()
  const verified = () => cliHere(['verify', '--redis', url, '--stream', stream, '--log', join(folder, 'one.log'), join(folder, 'other.log.gz')], { env: { TOOLJET_API_TOKEN: API_TOKEN } })
  t.match(await verified(), { code: 0, stdout: new RegExp(`^${count} events of 2 instances, 1 instance not closed, ${count} events of 2 instances in the app's log\n[^]*\nintact`), stderr: '' })
  const [last] = await one.redis.xrevrange(stream, '+', '-', 'COUNT', 1)
  await one.redis.xtrim(stream, 'MAXLEN', 0)
  await one.redis.xadd(stream, '*', ...last![1])
  t.match(await verified(), { code: 1, stdout: /\nmissing / })
})

test('verify --log: trimming explains what is old, but not what is younger than the oldest entry', async (t) => {
  const { at, log, redis } = await openLog(t)
  const day = 86_400_000
  const now = Date.now()
  const events = (instance: string) => [40, 39, 2, 1].map((days) => ({ event: 'url.reused', instance, at: now - days * day } as const))
  await log.add([...events('web-1'), ...events('web-2')])
  const file = join(scratch(t), 'app.log')
  writeFileSync(file, log.logged.map((fields) => pinoLine(fields)).join(''))
  const entries = await log.entries()
  /** Entries as they came, with ids of their time. */
  const rewrite = async (kept: number[]): Promise<void> => {
    await redis.del(log.stream)
    for (const i of kept.sort((a, b) => a % 4 - b % 4)) await redis.xadd(log.stream, `${now - [40, 39, 2, 1][i % 4]! * day}-${i}`, ...entries[i]![1])
    await reindex(redis, log.stream)
  }
  const verified = async (...args: string[]) => {
    const { stdout } = await cliHere(['verify', ...at, '--json', '--log', file, ...args], { env })
    return parsed(stdout).flatMap(({ kind, instance, seq }) => (kind === undefined ? [] : [`${String(kind)} ${String(instance)} ${String(seq)}`]))
  }
  await rewrite([2, 3, 6, 7])
  t.same(await verified('--retention', '30d'), [], 'trimmed')
  t.same(await verified('--retention', '90d'), ['erased web-1 1', 'erased web-2 1', 'missing web-1 1', 'missing web-2 1'])
  await rewrite([2, 3])
  t.same(await verified('--retention', '30d'), ['missing web-2 3'], 'an instance that was left out')
  t.same(await verified('--retention', '30d', '--max-entries', '2'), ['missing web-2 4'], 'a full stream explains what is older than what it has')
  await rewrite([0, 1, 2, 3, 6, 7])
  t.same(await verified('--retention', '30d'), ['erased web-2 1', 'missing web-2 2'], 'as old as the oldest entry is one of the two')
})

test('verify: on a terminal a line tells how far it is', pty, async (t) => {
  const { at } = await openLog(t, Array.from({ length: 3000 }, () => ({ event: 'url.reused' })))
  const { code, stdout } = await cliOnTerminal(['verify', ...at], { TOOLJET_EMBED_ENCRYPTION_KEY: KEY })
  t.equal(code, 0)
  t.match(visible(stdout), /<CR>verified [\d,]+ of 3,000 events \(\d+ %\), [\d,]+\/s<ESC>\[K/)
  t.match(visible(stdout), /<CR><ESC>\[K3,000 events of 1 instance, 1 instance not closed<CR>\nsince .*<CR>\n<ESC>\[32mintact/, 'and is taken away')
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
  t.same(Object.keys(bin).filter((name) => !readFileSync(join(packed, bin[name]!), 'utf8').startsWith('#!/usr/bin/env node\n')), [])
  t.match(await ended(process.execPath, [program, '--version'], {}), { code: 0, stdout: `${version}\n`, stderr: '' })
  const { stdout } = await ended(process.execPath, [program, 'query', '--json', '--email', ANA, ...at], {})
  t.same(ids(stdout), [all[2], all[1]])
  t.equal(createHash('sha256').update(readFileSync(program)).digest('hex'), createHash('sha256').update(readFileSync(join(folder, 'dist', 'cli', 'audit.js'))).digest('hex'))
})

test('times: local ones are taken in the machine\'s zone and told in UTC, impossible ones are refused', (t) => {
  const zone = process.env['TZ']
  t.teardown(() => { if (zone === undefined) delete process.env['TZ']; else process.env['TZ'] = zone })
  process.env['TZ'] = 'America/New_York' // UTC-5 that day, UTC-4 until the 1st
  const now = new Date('2026-11-26T18:30:00.000Z') // 13:30 there
  const cases: [text: string, time: string | undefined, isLocal?: boolean][] = [
    ['22:00', '2026-11-26T03:00:00.000Z', true], // of yesterday: today's is to come
    ['9:05', '2026-11-26T14:05:00.000Z', true],
    ['13:30:00', '2026-11-26T18:30:00.000Z', true],
    ['today', '2026-11-26T05:00:00.000Z', true],
    ['Yesterday', '2026-11-25T05:00:00.000Z', true],
    ['2026-11-26 22:00', '2026-11-27T03:00:00.000Z', true],
    ['2026-10-26 22:00', '2026-10-27T02:00:00.000Z', true],
    ['2026-11-26 22:00Z', '2026-11-26T22:00:00.000Z'],
    ['2026-11-26T22:00', '2026-11-26T22:00:00.000Z'],
    ['2026-11-26T22:00:01.5Z', '2026-11-26T22:00:01.500Z'],
    ['2026-11-26T24:00', '2026-11-27T00:00:00.000Z'],
    ['2026-11-26T22:00+01:00', '2026-11-26T21:00:00.000Z'],
    ['2026-11-26T22:00-0530', '2026-11-27T03:30:00.000Z'],
    ['2026-11-26', '2026-11-26T00:00:00.000Z'],
    ['2028-02-29', '2028-02-29T00:00:00.000Z'],
    ['1795372562534', '2026-11-22T18:36:02.534Z'],
    ['0', '1970-01-01T00:00:00.000Z'],
    ['90s', '2026-11-26T18:28:30.000Z'],
    ['7d', '2026-11-19T18:30:00.000Z'],
    ...['24:59', '24:00:01', '2026-11-26T24:59', '2026-11-26T25:00', '12:60', '12:00:60', '2026-02-29', '2026-13-01', '2026-11-31 12:00', '2026-11-00', '2026-11-26T12', '12', '1795372562', '22:00Z', '2026-11-26T12:00+24:00', '2026-11-26T12:00+01:60', '26.11.2026', 'tomorrow', '-1h', '1w', '24 h'].map((text): [string, undefined] => [text, undefined]),
  ]
  for (const [text, time, isLocal = false] of cases) {
    const moment = parseTime(text, now)
    t.equal(moment && new Date(moment.ms).toISOString(), time, text)
    if (moment !== undefined) t.equal(moment.isLocal, isLocal, text)
  }
  const spring = new Date('2026-03-08T20:00:00.000Z') // that day clocks went from 2:00 to 3:00
  for (const text of ['02:00', '2:30', '2026-03-08 02:30', '2026-03-08 02:59:59.999']) t.equal(parseTime(text, spring), undefined, `${text}: there was none`)
  for (const [text, time] of [['03:00', '08T07:00'], ['01:59', '08T06:59'], ['24:00', '08T05:00'], ['2026-03-08 24:00', '09T04:00'], ['2026-03-07 24:00', '08T05:00'], ['2026-03-08T02:30Z', '08T02:30']] as const) {
    t.equal(new Date(parseTime(text, spring)!.ms).toISOString(), `2026-03-${time}:00.000Z`, text)
  }
  t.equal(new Date(parseTime('02:30', new Date('2026-03-08T06:30Z'))!.ms).toISOString(), '2026-03-07T07:30:00.000Z', 'at half past one it is the one of the day before')
  const output = () => {
    const notes: string[] = []
    return { notes, out: { note: (text: string) => { notes.push(text) } } as unknown as Output }
  }
  const { notes, out } = output()
  t.match(resolveFilters({ since: '21:00', until: '22:00' }, out, now), { since: '2026-11-26T02:00:00.000Z', until: '2026-11-26T03:00:00.000Z' })
  t.same(notes, ['--since 21:00 is 2026-11-26T02:00:00.000Z', '--until 22:00 is 2026-11-26T03:00:00.000Z'])
  t.throws(() => resolveFilters({ since: '13:00', until: '14:00' }, out, now), /--until 14:00 \(2026-11-25T19:00:00.000Z\) is not after --since 13:00 \(2026-11-26T18:00:00.000Z\)/, 'the last 14:00 was yesterday')
  const quiet = output()
  t.match(resolveFilters({ since: '2h', until: '2026-11-26T18:00Z' }, quiet.out, now), { since: '2h', until: '2026-11-26T18:00:00.000Z' })
  t.same(quiet.notes, [])
  t.throws(() => resolveFilters({ since: 'today', until: 'yesterday' }, out, now), /--until yesterday \(.*\) is not after --since today \(/)
  t.end()
})

test('query: local times and codes of others', async (t) => {
  const { at, ids: all } = await openLog(t, [...EVENTS, { event: 'url.failed', code: 'HOST_CODE' }, { event: 'url.denied', code: 'FST_ERR_NOT_OF_FASTIFY' }])
  const local = await cli(['query', '--json', '--since', 'yesterday', '--event', 'url.minted', ...at], { TZ: 'Asia/Tokyo' })
  t.match(local, { code: 0, stderr: /^--since yesterday is \d{4}-\d\d-\d\dT15:00:00\.000Z\n$/ })
  t.same(ids(local.stdout), [all[4], all[1]])
  t.same(ids((await cliHere(['query', '--json', '--code', 'HOST_CODE', '--since', '1h', ...at])).stdout), [all[6]])
  t.same(ids((await cliHere(['query', '--json', '--code', 'FST_ERR_NOT_OF_FASTIFY', ...at])).stdout), [all[7]])
  for (const code of ['host_code', 'FST_ERR_VALIDATOIN', 'BUSSY']) {
    for (const command of ['query', 'stats', 'export', 'tail']) {
      t.match(await cliHere([command, '--code', code, ...at], { signal: AbortSignal.timeout(2000) }), { code: 2, stdout: '', stderr: new RegExp(`--code is "${code}", .* there are .* BUSY, `) }, `${command} ${code}`)
    }
  }
})

test('nothing unexpected ends with 0 or 1, or with more than a line', async (t) => {
  const broken = Object.defineProperty({}, 'REDIS_URL', { enumerable: true, get () { throw new TypeError('broken\nin two') } })
  t.match(await cliHere(['query'], { env: broken }), { code: 70, stdout: '', stderr: /^tooljet-embed-audit: unexpected error: TypeError: broken\\x0ain two\n$/ })
  const program = auditFile()
  const load = (code: string) => ended(process.execPath, ['--import', `data:text/javascript,${encodeURIComponent(code)}`, program, '--help'], {})
  for (const breaks of ["throw new Error('broken')", "Promise.reject(new Error('broken'))"]) {
    const code = `const { write } = process.stdout; process.stdout.write = function (...args) { setImmediate(() => { ${breaks} }); return write.apply(this, args) }`
    t.match(await load(code), { code: 70, stderr: /^tooljet-embed-audit: unexpected error: Error: broken\n$/ }, breaks)
  }
  t.match(await load('process.stdout.write = () => true'), { code: 3, stderr: 'tooljet-embed-audit: Redis gave no answer\n' }, 'nothing is left that could bring an answer')
  const folder = scratch(t)
  mkdirSync(join(folder, 'cli'))
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
  for (const file of ['audit.js', 'start.js']) copyFileSync(join(dirname(program), file), join(folder, 'cli', file))
  t.match(await ended(process.execPath, [join(folder, 'cli', 'audit.js'), 'verify'], {}), { code: 70, stderr: /^tooljet-embed-audit: unexpected error: Error[^\n]*: Cannot find module [^\n]*\n$/ }, 'a package that is not whole')
})

/** Names and types of the fields of an export, as ECS 8.17 has them; those of the plugin as docs/audit.md maps them. */
const ECS_FIELDS: Record<string, 'keyword' | 'keyword[]' | 'date' | 'long' | 'ip'> = {
  '@timestamp': 'date',
  'ecs.version': 'keyword',
  'error.code': 'keyword',
  'event.action': 'keyword',
  'event.category': 'keyword[]',
  'event.dataset': 'keyword',
  'event.duration': 'long',
  'event.id': 'keyword',
  'event.kind': 'keyword',
  'event.outcome': 'keyword',
  'event.provider': 'keyword',
  'event.reason': 'keyword',
  'event.sequence': 'long',
  'event.type': 'keyword[]',
  'http.request.id': 'keyword',
  'source.address': 'keyword',
  'source.ip': 'ip',
  'trace.id': 'keyword',
  'user.email': 'keyword',
  'user.hash': 'keyword',
  'user_agent.original': 'keyword',
  'tooljet_embed.app': 'keyword',
  'tooljet_embed.by': 'keyword',
  'tooljet_embed.count': 'long',
  'tooljet_embed.expires_at': 'date',
  'tooljet_embed.instance': 'keyword',
  'tooljet_embed.mac': 'keyword',
  'tooljet_embed.prev': 'keyword',
  'tooljet_embed.retention': 'keyword',
  'tooljet_embed.schema': 'keyword',
  'tooljet_embed.target': 'keyword',
  'tooljet_embed.tooljet': 'keyword',
  'tooljet_embed.url_id': 'keyword',
}

const IS_OF_TYPE: Record<typeof ECS_FIELDS[string], (value: unknown) => boolean> = {
  keyword: (value) => typeof value === 'string' && value !== '',
  'keyword[]': (value) => Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === 'string'),
  date: (value) => typeof value === 'string' && new Date(value).toISOString() === value,
  long: (value) => Number.isSafeInteger(value),
  ip: (value) => isIP(String(value)) !== 0 && !String(value).includes('%'),
}

/** Which types ECS expects of a category, of those that are used. */
const ECS_TYPES: Record<string, string[]> = {
  api: ['access', 'admin', 'allowed', 'change', 'creation', 'deletion', 'denied', 'end', 'info', 'start', 'user'],
  process: ['access', 'change', 'end', 'info', 'start'],
}

function flattened (value: Record<string, unknown>, start = ''): [name: string, value: unknown][] {
  return Object.entries(value).flatMap(([name, inner]) => {
    const isObject = typeof inner === 'object' && inner !== null && !Array.isArray(inner)
    return isObject ? flattened(inner as Record<string, unknown>, `${start}${name}.`) : [[`${start}${name}`, inner] as [string, unknown]]
  })
}

test('the settings of Vector and Filebeat in docs/audit.md name files and fields that there are', (t) => {
  const files = COMMANDS['export']!.examples.flatMap(({ line }) => /--out (\S+)/.exec(line)?.[1] ?? [])
  const section = sectionOf('docs/audit.md', '### Files')
  const settings = blocksOf('docs/audit.md').filter(({ language }) => language === 'yaml').map(({ code }) => code)
  t.equal(settings.length, 2)
  t.same(settings.map((code) => /\[(\/var\S+)\]/.exec(code)![1]), files, 'plain lines for the one, ECS for the other')
  for (const code of settings) {
    const indents = code.trimEnd().split('\n').map((line) => /^ */.exec(line)![0].length)
    t.ok(indents.every((indent, i) => indent % 2 === 0 && indent <= (indents[i - 1] ?? 0) + 4), 'nested as YAML has it')
    t.equal(code.split(/[[{(]/).length, code.split(/[\]})]/).length, 'brackets close')
  }
  const [, vector] = /inputs: \[(\w+)\]\n {4}uri/.exec(settings[0]!)!
  t.match(settings[0], `\n  ${vector}:\n    type: remap\n`)
  for (const name of /fields: \[(.*?)\]/.exec(settings[1]!)![1]!.split(', ')) t.ok(ECS_FIELDS[name], name)
  for (const name of Object.keys(ECS_FIELDS).filter((name) => name !== 'ecs.version')) t.ok(section.includes(`\`${name.replace('tooljet_embed.', '')}\``), `${name} is told of`)
  t.match(section, `reference/ecs) ${ECS_VERSION}`)
  t.end()
})

test('export --format ecs: every field has a name and a type of ECS, or of the plugin\'s own', async (t) => {
  const everything: AuditEvent = {
    ...{ event: 'url.limited', code: 'TOOLJET_EMBED_RATE_LIMITED', email: ANA, app: 'payroll', tooljet: 'https://tooljet.example.com', urlId: 'u1', expiresAt: '2026-11-22T18:36:02.534Z' },
    ...{ requestId: 'r1', ip: '2001:db8::1', userAgent: 'Firefox/1', traceId: '4bf92f3577b34da6a3ce929d0e0e4736', durationMs: 12 },
    ...{ count: 7, by: 'ops@acme.test', reason: 'other_user', target: BEN, retention: '90d/1' },
  }
  const names: AuditEventName[] = ['url.minted', 'url.reused', 'url.denied', 'url.failed', 'url.forgotten', 'url.warmed', 'audit.opened', 'audit.closed']
  const { at, log, redis } = await openLog(t, [{ event: 'audit.opened' }, everything, ...names.map((event) => ({ event })), { event: 'url.minted', email: 'hmac:0123456789abcdef0123456789abcdef', ip: 'fe80::1%eth0' }])
  const foreign = await redis.xadd(log.stream, '*', 'time', 'soon', 'event', 'constructor', 'outcome', 'x', 'seq', '1e9', 'duration_ms', '-1', 'expires_at', '2026', 'ip', 'x', '__proto__', 'y', 'note', 'z')
  await redis.xadd(log.stream, '9000000000000000-0', 'event', 'of no date')
  const { code, stdout } = await cliHere(['export', '--format', 'ecs', ...at])
  t.equal(code, 0)
  const events = parsed(stdout)
  const seen = new Set<string>()
  for (const event of events) {
    for (const [name, value] of flattened(event)) {
      seen.add(name)
      t.ok(ECS_FIELDS[name] !== undefined && IS_OF_TYPE[ECS_FIELDS[name]](value), `${name}: ${JSON.stringify(value)}`)
    }
    const { category = [], type = [], outcome } = event['event'] as { category?: string[], type?: string[], outcome: string }
    t.ok(category.every((one) => type.every((kind) => ECS_TYPES[one]!.includes(kind))), `${category.join()}: ${type.join()}`)
    t.ok(['success', 'failure', 'unknown'].includes(outcome))
  }
  t.same(Object.keys(ECS_FIELDS).filter((name) => !seen.has(name)), [], 'every one of them was there')
  const [first, second] = await log.entries()
  t.same(events[1], {
    '@timestamp': second![1][1],
    ecs: { version: '8.17.0' },
    event: { kind: 'event', category: ['api'], type: ['access', 'denied'], action: 'url.limited', outcome: 'failure', reason: 'other_user', duration: 12_000_000, id: second![0], sequence: 2, provider: 'fastify-tooljet-embed', dataset: 'tooljet_embed.audit' },
    error: { code: 'TOOLJET_EMBED_RATE_LIMITED' },
    user: { email: ANA },
    source: { address: '2001:db8::1', ip: '2001:db8::1' },
    user_agent: { original: 'Firefox/1' },
    http: { request: { id: 'r1' } },
    trace: { id: '4bf92f3577b34da6a3ce929d0e0e4736' },
    tooljet_embed: { app: 'payroll', tooljet: 'https://tooljet.example.com', url_id: 'u1', expires_at: '2026-11-22T18:36:02.534Z', count: 7, by: 'ops@acme.test', target: BEN, retention: '90d/1', instance: 'web-1', prev: first![1].at(-1), mac: second![1].at(-1), schema: '2' },
  })
  t.match(events.at(-3), { user: { hash: 'hmac:0123456789abcdef0123456789abcdef' }, source: { address: 'fe80::1%eth0' } }, 'a pseudonym is no e-mail')
  t.match(events.at(-2), { '@timestamp': new Date(parseInt(foreign!, 10)).toISOString(), event: { action: 'constructor', outcome: 'unknown' } }, 'a foreign entry breaks no mapping')
  t.match(events.at(-1), { '@timestamp': '9999-12-31T23:59:59.999Z', event: { action: 'of no date' } }, 'nor does an id')
})
