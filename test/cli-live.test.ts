import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { appendFileSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { Redis } from 'ioredis'
import { t as tap, test, type Test } from 'tap'
import { startServer, type RedisServer } from '../example/redis.js'
import { loadLibrary } from '../plugin/audit/functions.js'
import type { RedisLike } from '../plugin/redis/redis-like.js'
import { Child } from './support/child.js'
import { cli, cliEnv, cliHere, cliOnTerminal, ended, HAS_SCRIPT, ids, KEY, Log, auditFile, parsed, scratch, scriptArgs, visible } from './support/cli.js'
import { startCluster } from './support/cluster.js'
import { releaseRedisAfter } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { stopwatch } from './support/stopwatch.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

const ANA = 'ana@acme.test'
const BEN = 'ben@acme.test'
const STREAM = 'tooljet-embed:audit'
const env = { TOOLJET_EMBED_ENCRYPTION_KEY: KEY }
const reused = (count: number) => Array.from({ length: count }, () => ({ event: 'url.reused', email: ANA, app: 'payroll' } as const))

/** A Redis of one's own, and the default log in it. */
async function open (t: Test, { args = [] as string[], functions = true } = {}): Promise<{ server: RedisServer, redis: Redis, log: Log, at: string[] }> {
  const server = await startServer({ args })
  t.teardown(() => server.stop())
  const redis = newClient(server.url)
  t.teardown(() => redis.disconnect())
  if (functions) await loadLibrary(redis as unknown as RedisLike)
  return { server, redis, log: new Log(redis, STREAM), at: ['--redis', server.url] }
}

async function allIds (log: Log): Promise<string[]> {
  return (await log.entries()).map(([id]) => id)
}

test('tail: the newest first, then what comes, filtered; SIGTERM ends it with 0', { timeout: 60_000 }, async (t) => {
  const { log, at } = await open(t)
  await log.add([{ event: 'url.minted', email: ANA }, { event: 'url.reused', email: ANA }, { event: 'url.minted', email: BEN }])
  const before = await allIds(log)
  const all = Child.start(t, [auditFile(), 'tail', '--json', '--last', '2', ...at], {})
  const refused = Child.start(t, [auditFile(), 'tail', '--json', '--outcome', 'failure', '--code', 'BUSY', '--email', 'Ben@acme.test', ...at], {})
  const since = Child.start(t, [auditFile(), 'tail', '--since', '1h', ...at], {})
  await all.prints(before[2]!)
  await since.prints(BEN)
  // it has asked for the newest id before it shows what it waits for; one that shows nothing is seen by Redis alone
  const watcher = newClient(at[1]!)
  t.teardown(() => watcher.disconnect())
  await until('all wait', async () => String(await watcher.call('CLIENT', 'LIST')).match(/cmd=xread/g)?.length === 3)
  await log.add([
    { event: 'url.limited', email: ANA, code: 'TOOLJET_EMBED_BUSY' },
    { event: 'url.denied', email: BEN, code: 'TOOLJET_EMBED_ACCESS_DENIED' },
    { event: 'url.limited', email: BEN, code: 'TOOLJET_EMBED_BUSY' },
  ])
  const after = await allIds(log)
  await all.prints(after[5]!)
  await refused.prints(after[5]!)
  t.same(ids(all.output), after.slice(1), 'the newest two, and what came')
  t.same(ids(refused.output), [after[5]])
  t.match(await since.prints('BUSY'), /^TIME[^]*url\.minted[^]*url\.limited +ana@acme\.test +BUSY/)
  t.equal(since.output.match(/^TIME/gm)!.length, 1)
  for (const child of [all, refused, since]) t.equal(await child.stop(), 0)
})

test('tail: connections that are cut, and a Redis that stops, lose and repeat nothing', { timeout: 90_000 }, async (t) => {
  const { server, log, redis, at } = await open(t)
  await log.add(reused(1))
  const [first] = await allIds(log)
  const child = Child.start(t, [auditFile(), 'tail', '--json', '--last', '1', ...at], {})
  const stop = new AbortController()
  let shown = ''
  const here = cliHere(['tail', '--json', '--last', '1', '--email', ANA, ...at], { signal: stop.signal, shows: (text) => { shown = text } })
  await child.prints(first!)
  await until('both wait', () => shown.includes(first!))
  for (let i = 0; i < 10; i++) {
    await log.add(reused(20))
    if (i % 3 === 0) await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
  }
  const timesAway = () => child.output.split('Redis connection lost, trying again').length - 1
  const cut = timesAway()
  t.ok(cut > 0)
  server.process.kill('SIGSTOP')
  await until('it notices the silence', () => timesAway() > cut)
  server.process.kill('SIGCONT')
  await log.add(reused(5))
  const all = await allIds(log)
  await child.prints(all.at(-1)!)
  t.same(ids(child.output), all)
  t.match(child.output, /Redis connection restored/)
  await until('the other one has all, too', () => shown.includes(all.at(-1)!))
  stop.abort()
  const { code, stdout } = await here
  t.same([code, ids(stdout)], [0, all])
  t.equal(await child.stop(), 0)
})

test('tail: Ctrl-C on a terminal ends it with 0, and so does a reader that has seen enough', { timeout: 60_000, ...(HAS_SCRIPT ? {} : { skip: 'there is no `script` of util-linux' }) }, async (t) => {
  const { log, at } = await open(t)
  await log.add(reused(3))
  const terminal = spawn('script', scriptArgs(['tail', '--last', '1', ...at]), { env: cliEnv({ TERM: 'xterm' }), stdio: ['pipe', 'pipe', 'inherit'] })
  let shown = ''
  terminal.stdout.on('data', (text) => { shown += String(text) })
  await until('it shows the newest', () => shown.includes(ANA))
  terminal.stdin.write('\u0003')
  const [code] = await once(terminal, 'close') as [number]
  t.equal(code, 0)

  const line = `'${process.execPath}' '${auditFile()}' tail --json --last 1 ${at.join(' ')}`
  const reader = execFile('bash', ['-c', `{ ${line}; echo "ended with $?" >&2; } | head -1`], { env: cliEnv({}) }, () => {})
  let told = ''
  reader.stderr!.on('data', (text) => { told += String(text) })
  await until('it sees that nobody reads', async () => { await log.add(reused(1)); return told.includes('ended') })
  t.equal(told, 'ended with 0\n')
})

test('export: all, what is after an id, and what a filter asks for', { timeout: 60_000 }, async (t) => {
  const { log, at, redis } = await open(t)
  await log.add([...reused(1500), { event: 'url.denied', email: BEN, app: 'payroll', code: 'TOOLJET_EMBED_ACCESS_DENIED' }])
  const all = await allIds(log)
  const { code, stdout, stderr } = await cli(['export', ...at])
  t.match({ code, stderr }, { code: 0, stderr: '' })
  t.same(ids(stdout), all)
  t.match(parsed(stdout).at(-1), { id: all.at(-1), event: 'url.denied', email: BEN })
  t.same(ids((await cliHere(['export', '--after', all[1300]!, ...at], { slow: true })).stdout), all.slice(1301))
  t.same(ids((await cliHere(['export', '--outcome', 'failure', ...at])).stdout), all.slice(1500))
  t.same(ids((await cliHere(['export', '--email', ANA, '--after', all[700]!, ...at])).stdout), all.slice(701, 1500))
  const file = join(scratch(t), 'audit.ndjson')
  const onTerminal = await cliHere(['export', '--out', file, ...at], { isTTY: true })
  t.match({ ...onTerminal, stderr: visible(onTerminal.stderr) }, { code: 0, stdout: '', stderr: /<CR>exported [\d,]+ of 1,501 events \(\d+ %\), .*<CR><ESC>\[Kexported 1,501 events\n$/ })
  t.notMatch(await cliHere(['export', ...at], { isTTY: true }), { stderr: /exported/ }, 'no progress among the results')
  await redis.xtrim(STREAM, 'MINID', all[900]!)
  t.match(await cliHere(['export', '--after', all[800]!, ...at]), { stderr: new RegExp(`^events may be missing in this export: ${all[800]}, .* is no longer in the log`) })
  const cut = await ended('bash', ['-c', `set -o pipefail; '${process.execPath}' '${auditFile()}' export ${at.join(' ')} | head -1`], {})
  t.match(cut, { code: 0, stderr: '' }, 'a reader that has seen enough')
  t.equal(ids(cut.stdout).length, 1)
  if (existsSync('/dev/full')) t.match(await ended('bash', ['-c', `'${process.execPath}' '${auditFile()}' export ${at.join(' ')} > /dev/full`], {}), { code: 2, stderr: /cannot be written: ENOSPC/ })
})

test('export --out: goes on after a kill -9 in the middle, and after a torn line', { timeout: 90_000 }, async (t) => {
  const { log, at } = await open(t)
  await log.add(reused(30_000))
  const all = await allIds(log)
  const file = join(scratch(t), 'audit.ndjson')
  const child = spawn(process.execPath, [auditFile(), 'export', '--out', file, ...at], { env: cliEnv({}), stdio: 'ignore' })
  await until('it has begun to write', () => existsSync(file) && statSync(file).size > 0)
  child.kill('SIGKILL')
  await once(child, 'close')
  const written = readFileSync(file, 'utf8')
  t.ok(written.length > 0 && ids(written.slice(0, written.lastIndexOf('\n'))).length < all.length, 'it was in the middle')
  t.equal(statSync(file).mode & 0o777, 0o600, 'only its owner reads it')
  const shared = join(scratch(t), 'shared')
  writeFileSync(shared, '', { mode: 0o640 })
  await cliHere(['export', '--out', shared, '--after', all.at(-2)!, ...at])
  t.same([statSync(shared).mode & 0o777, statSync(`${shared}.state`).mode & 0o777], [0o640, 0o600], 'one that was made before stays as it is')

  for (const torn of ['{', '{"id":"1', `{"id":"${all.at(-1)}","time":"2026-0`]) {
    appendFileSync(file, torn)
    t.match(await cli(['export', '--out', file, ...at]), { code: 0, stderr: '' })
    t.same(ids(readFileSync(file, 'utf8')), all)
  }
  const more = await log.add(reused(2))
  await cliHere(['export', '--out', file, ...at])
  t.same(ids(readFileSync(file, 'utf8')), [...all, ...more])

  for (const [i, text] of ['{"id":', '{"id":"17'].entries()) { // torn before its first line was whole
    const young = join(scratch(t), `young${i}`)
    writeFileSync(young, text)
    await cliHere(['export', '--out', young, '--after', all.at(-2)!, ...at])
    t.same(ids(readFileSync(young, 'utf8')), [all.at(-1), ...more])
  }
})

/** A log, and a file that it is exported to. */
async function openExport (t: Test) {
  const { log, at } = await open(t)
  const folder = scratch(t)
  const file = join(folder, 'audit.ndjson')
  const exportTo = (to: string, ...args: string[]) => cliHere(['export', '--out', to, ...args, ...at])
  /** @returns the ids in the file after one more run */
  const exported = async (...args: string[]) => {
    t.match(await exportTo(file, ...args), { code: 0, stderr: '' })
    return ids(readFileSync(file, 'utf8'))
  }
  return { log, folder, file, state: `${file}.state`, exportTo, exported }
}

test('export --out: a rotated file begins where the one before it ended', { timeout: 60_000 }, async (t) => {
  const { log, folder, file, state, exported } = await openExport(t)
  const first = await log.add(reused(3))
  t.same(await exported(), first)
  t.same(JSON.parse(readFileSync(state, 'utf8')), { stream: STREAM, id: first[2] })
  t.same(readdirSync(folder).sort(), ['audit.ndjson', 'audit.ndjson.state'], 'no lock stays')

  renameSync(file, `${file}.1`) // as logrotate does
  t.same(await exported(), [], 'there is nothing new')
  const second = await log.add(reused(2))
  t.same(await exported(), second)
  truncateSync(file) // as its copytruncate does
  const third = await log.add(reused(2))
  t.same(await exported(), third)
})

test('export --out: a file that is ahead of its position, or has none, is exported to once', { timeout: 60_000 }, async (t) => {
  const { log, file, state, exportTo, exported } = await openExport(t)
  const [before] = await log.add(reused(1))
  await exported()
  truncateSync(file)
  const events = await log.add(reused(2))
  await exported()
  writeFileSync(state, `${JSON.stringify({ stream: STREAM, id: before })}\n`) // a run that broke off between the two
  t.same(await exported(), events, 'the file is ahead')
  t.same(JSON.parse(readFileSync(state, 'utf8')), { stream: STREAM, id: events[1] }, 'which is kept')
  rmSync(state) // of an earlier version
  const more = await log.add(reused(1))
  t.same(await exported(), [...events, ...more])
  t.match(await exportTo(file, '--after', before!), { code: 2, stderr: /--after .*: the last event that was exported to .* is \d+-\d+, after which this goes on/ })
})

test('export --out: a position is that of one filter, of which times may change', { timeout: 60_000 }, async (t) => {
  const { log, folder, file, exportTo, exported } = await openExport(t)
  const [first] = await log.add(reused(3))
  await exported()
  t.match(await exportTo(file, '--outcome', 'failure'), { code: 2, stderr: /--state .*state: it is the position of an export with no filter, and not with --outcome failure/ })
  const filtered = join(folder, 'ana.ndjson')
  for (const more of [[], ['--since', '1d'], ['--until', 'today']]) t.match(await exportTo(filtered, '--email', ANA, '--url-id', 'u1', ...more), { code: 0 }, 'times may change')
  writeFileSync(`${filtered}.state`, JSON.stringify({ stream: STREAM, id: first, filters: { url_id: 'u1', email: ANA } }))
  t.match(await exportTo(filtered, '--email', ANA, '--url-id', 'u1'), { code: 0, stderr: '' })
  t.match(await exportTo(filtered, '--email', BEN, '--url-id', 'u1'), { code: 2, stderr: /it is the position of an export with --email ana@acme.test --url-id u1, and not with --email ben@acme.test --url-id u1/ })
  rmSync(`${filtered}.state`)
  await exportTo(filtered, '--email', ANA)
  t.match(JSON.parse(readFileSync(`${filtered}.state`, 'utf8')), { filters: { email: ANA } })
})

test('export --state: another file keeps the position, and one that is no position is refused and left as it is', { timeout: 60_000 }, async (t) => {
  const { log, folder, file, state, exportTo, exported } = await openExport(t)
  const events = await log.add(reused(3))
  const elsewhere = join(folder, 'position')
  t.same(await exported('--state', elsewhere), events)
  t.notOk(existsSync(state))
  t.same(JSON.parse(readFileSync(elsewhere, 'utf8')), { stream: STREAM, id: events[2] })
  t.match(await exportTo(file, '--state', elsewhere, '--stream', 'another'), { code: 2, stderr: /--state .*position: it is the position in another stream, tooljet-embed:audit/ })
  for (const text of ['', 'x', 'null', '{"id":7}', `{"id":"1-","stream":"${STREAM}"}`, `{"id":"18446744073709551616-0","stream":"${STREAM}"}`]) {
    writeFileSync(elsewhere, text)
    t.match(await exportTo(file, '--state', elsewhere), { code: 2, stderr: /--state .*position: it is no position of an earlier export/ })
    t.equal(readFileSync(elsewhere, 'utf8'), text)
    t.notOk(existsSync(`${file}.lock`), 'no lock stays')
  }
  t.match(await exportTo(file, '--state', join(folder, 'none', 'position')), { code: 2, stderr: /--state .*position: ENOENT/ })
})

test('export --out: one file has one format', { timeout: 60_000 }, async (t) => {
  const { log, folder, file, exportTo, exported } = await openExport(t)
  const events = await log.add(reused(3))
  await exported()
  t.match(await exportTo(file, '--format', 'ecs'), { code: 2, stderr: /does not end in a line of an earlier export in this format/ })
  const ecs = join(folder, 'audit.ecs')
  for (let i = 0; i < 2; i++) t.match(await exportTo(ecs, '--format', 'ecs'), { code: 0 })
  appendFileSync(ecs, '{"@timest')
  const more = await log.add(reused(1))
  await exportTo(ecs, '--format', 'ecs')
  t.same(parsed(readFileSync(ecs, 'utf8')).map(({ event }) => (event as { id: string }).id), [...events, ...more])
})

test('export --out: one run at a time; what a run that was killed leaves behind is taken over', { timeout: 90_000 }, async (t) => {
  const { log, at } = await open(t)
  await log.add(reused(20_000))
  const all = await allIds(log)
  const folder = scratch(t)
  const file = join(folder, 'audit.ndjson')
  const lock = `${file}.lock`
  const killed = spawn(process.execPath, [auditFile(), 'export', '--out', file, ...at], { env: cliEnv({}), stdio: 'ignore' })
  await until('it has begun to write', () => existsSync(file) && statSync(file).size > 0)
  t.match(readFileSync(lock, 'utf8'), new RegExp(`^${killed.pid} `))
  killed.kill('SIGSTOP') // it lives, and is in the middle
  const second = await cli(['export', '--out', file, ...at])
  t.match(second, { code: 2, stdout: '', stderr: new RegExp(`--out .*audit\\.ndjson: another export \\(process ${killed.pid} on .*\\) writes to it; if that has ended, delete .*\\.lock`) })
  killed.kill('SIGKILL')
  await once(killed, 'close')
  t.ok(existsSync(lock))

  const runs = await Promise.all(Array.from({ length: 4 }, () => cli(['export', '--out', file, ...at])))
  t.ok(runs.some(({ code }) => code === 0))
  for (const { code, stderr } of runs) if (code !== 0) t.match({ code, stderr }, { code: 2, stderr: /another export/ })
  t.same(ids(readFileSync(file, 'utf8')), all, 'each once, whoever wrote')
  t.notOk(existsSync(lock))

  for (const text of ['', 'x', `${process.pid} `, '0 ', `${killed.pid} ${hostname()}\n`]) { // of this very process: of another one with its id, before
    writeFileSync(lock, text)
    t.match(await cliHere(['export', '--out', file, ...at]), { code: 0, stderr: '' }, JSON.stringify(text))
    t.notOk(existsSync(lock))
  }
  writeFileSync(lock, `${killed.pid} elsewhere\n`)
  t.match(await cliHere(['export', '--out', file, ...at]), { code: 2, stderr: new RegExp(`another export \\(process ${killed.pid} on elsewhere\\)`) }, 'of another machine: it cannot be asked')
  t.equal(readFileSync(lock, 'utf8'), `${killed.pid} elsewhere\n`)
  rmSync(lock)
  t.match(await cliHere(['export', '--out', file, '--redis', 'redis://127.0.0.1:1']), { code: 3 })
  t.same(readdirSync(folder).sort(), ['audit.ndjson', 'audit.ndjson.state'], 'nor does one that fails leave anything')
})

test('export: files and readers that take no more, and files of others, which are left as they are', { timeout: 60_000 }, async (t) => {
  const { log, at } = await open(t)
  await log.add(reused(10))
  const folder = scratch(t)
  t.match(await cliHere(['export', ...at], { failsWith: 'EPIPE' }), { code: 0, stderr: '' })
  t.match(await cliHere(['query', ...at], { failsWith: 'EPIPE' }), { code: 0, stderr: '' })
  t.match(await cliHere(['query', ...at], { failsWith: 'ENOSPC' }), { code: 2, stderr: /cannot be written: write ENOSPC/ })
  for (const text of ['root:x:0:0\n', 'no line at all', '{"id":"x"}\n', '{"id":1}\n', 'null\n', 'x'.repeat(1_200_000)]) {
    const file = join(folder, 'foreign')
    writeFileSync(file, text)
    t.match(await cliHere(['export', '--out', file, ...at]), { code: 2, stderr: /does not end in a line of an earlier export/ })
    t.equal(readFileSync(file, 'utf8'), text)
  }
  t.match(await cliHere(['export', '--out', folder, ...at]), { code: 2, stderr: /EISDIR/ })
  t.match(await cliHere(['export', '--out', '/dev/null', ...at]), { code: 2, stderr: /it is no file/ })
})

test('a Redis that cannot be reached or refuses ends with 3, soon, and shows no password', { timeout: 60_000 }, async (t) => {
  const { server, redis, log, at } = await open(t)
  await log.add(reused(1))
  await redis.set('text', 'x')
  await redis.call('ACL', 'SETUSER', 'poor', 'on', '>hunter2', '~*', '+ping')
  await redis.call('ACL', 'SETUSER', 'officer', 'on', '>hunter2', '~*', '+fcall_ro', '+xrange', '+xrevrange', '+time')
  const authority = `127.0.0.1:${server.port}`
  const silent = createServer(() => {}) // accepts, and never says a word
  await new Promise<void>((resolve) => { silent.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => { silent.close() })
  const silentAt = `127.0.0.1:${(silent.address() as AddressInfo).port}`
  const cases: [url: string, args: string[], message: RegExp][] = [
    ['redis://:hunter2@127.0.0.1:1', [], /cannot be reached at 127.0.0.1:1: connect ECONNREFUSED/],
    [`redis://ana:hunter2@${authority}`, [], /refuses: WRONGPASS/],
    [`redis://poor:hunter2@${authority}`, [], /refuses: NOPERM/],
    [`rediss://:hunter2@${authority}`, [], /cannot be reached at /],
    [`redis://:hunter2@${silentAt}`, [], /cannot be reached at .*(?:timeout|TIMEDOUT)/i],
  ]
  const here = ['--redis', `redis://${authority}`, '--stream']
  t.match(await cliHere(['query', ...here, 'text']), { code: 2, stderr: /text is no stream \(WRONGTYPE\)/ })
  for (const command of ['query', 'stats', 'reindex', 'export']) t.match(await cliHere([command, ...here, 'nope']), { code: 2, stdout: '', stderr: /there is no stream nope here/ }, command)
  await Promise.all(cases.map(async ([url, args, message]) => {
    const waited = stopwatch()
    const { code, stdout, stderr } = await cli(['query', '--limit', '1', ...args], { REDIS_URL: url })
    t.match({ code, stdout, stderr }, { code: 3, stdout: '', stderr: message }, url)
    t.notMatch(stderr, /hunter2| {4}at /)
    t.match(await cliHere(['query', '--redis', url, ...args]), { code: 3, stderr: message })
    t.ok(waited() < 15_000, 'soon')
  }))
  t.match(await cli(['query', '--json'], { REDIS_URL: `redis://officer:hunter2@${authority}` }), { code: 0, stdout: /^\{"id"/, stderr: '' }, 'a user who may do nothing but read')

  const sudden = Child.start(t, [auditFile(), 'tail', '--last', '1', ...at], {})
  await sudden.prints(ANA)
  await redis.call('ACL', 'SETUSER', 'default', '-@all', '+acl', '+client')
  await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
  t.equal(await sudden.ends(), 3, 'a tail that may no longer read does not go on for ever')
  t.match(sudden.output, /refuses: NOPERM/)
})

test('export: a position beyond the newest event is refused, and the greatest id is a position', { timeout: 60_000 }, async (t) => {
  const { log, at, redis } = await open(t)
  const first = await log.add(reused(3))
  const file = join(scratch(t), 'audit.ndjson')
  const exported = (...args: string[]) => cliHere(['export', ...args, ...at])
  t.match(await exported('--out', file), { code: 0 })
  writeFileSync(`${file}.state`, JSON.stringify({ stream: STREAM, id: '99999999999999-0' }))
  const beyond = new RegExp(`the position of .*audit.ndjson.state, 99999999999999-0, is beyond the newest event of ${STREAM}, ${first[2]}, .* delete .*state and move .*audit.ndjson away`)
  t.match(await exported('--out', file), { code: 2, stderr: beyond })
  t.match(await exported('--after', '99999999999999-0'), { code: 2, stdout: '', stderr: /the position --after, 99999999999999-0, is beyond/ })
  rmSync(`${file}.state`)
  t.match(await exported('--out', file), { code: 0, stderr: '' })
  await redis.xtrim(STREAM, 'MAXLEN', 0)
  t.match(await exported('--out', file), { code: 0, stderr: /^events may be missing/ }, 'trimmed, but the same log')
  await redis.del(STREAM)
  t.match(await exported('--out', file), { code: 2, stderr: /is beyond the newest event of .*, 0-0,/ }, 'deleted')

  const greatest = '18446744073709551615-18446744073709551615'
  await redis.xadd(STREAM, '99999999999999-0', 'event', 'x')
  await redis.xadd(STREAM, greatest, 'event', 'x')
  rmSync(file)
  rmSync(`${file}.state`)
  for (let i = 0; i < 2; i++) t.match(await exported('--out', file), { code: 0, stderr: '' })
  t.match(JSON.parse(readFileSync(`${file}.state`, 'utf8')), { id: greatest })
  t.same(ids(readFileSync(file, 'utf8')), ['99999999999999-0', greatest])
  t.match(await exported('--after', greatest, '--email', ANA), { code: 0, stdout: '', stderr: '' })
  t.match(await cliHere(['query', '--after', greatest, '--order', 'asc', ...at]), { code: 0, stdout: '', stderr: /no event/ })
  t.match(await cliHere(['query', '--after', '18446744073709551616', ...at]), { code: 2, stderr: /--after is/ })
})

test('a Redis that answers no more in the middle ends a command with 3', { timeout: 120_000 }, async (t) => {
  const { server, redis, log } = await open(t)
  await log.add(reused(30_000))
  await redis.call('ACL', 'SETUSER', 'auditor', 'on', '>hunter2', '~*', '+@all')
  const at = ['--redis', `redis://auditor:hunter2@127.0.0.1:${server.port}`]
  const file = join(scratch(t), 'audit.ndjson')
  const child = Child.start(t, [auditFile(), 'export', '--out', file, ...at], {})
  await until('it has begun to write', () => existsSync(file) && statSync(file).size > 0)
  server.process.kill('SIGSTOP')
  t.teardown(() => server.process.kill('SIGCONT'))
  t.equal(await child.ends(), 3)
  t.match(child.output, /Redis connection lost, trying again\n[^]*cannot be reached at 127\.0\.0\.1:\d+: /)
})

test('a Redis that goes away for good in the middle ends an export with 3', { timeout: 90_000 }, async (t) => {
  const { server, log, at } = await open(t)
  await log.add(reused(30_000))
  const file = join(scratch(t), 'audit.ndjson')
  const child = Child.start(t, [auditFile(), 'export', '--out', file, ...at], {})
  await until('it has begun to write', () => existsSync(file) && statSync(file).size > 0)
  await server.stop()
  t.equal(await child.ends(), 3)
  t.match(child.output, /Redis connection lost, trying again\n[^]*cannot be reached/)
})

test('a Redis without the functions is asked with a script', { timeout: 60_000 }, async (t) => {
  const { redis, log, at } = await open(t, { functions: false })
  await log.add([...reused(2), { event: 'url.minted', email: BEN, app: 'stock' }])
  const all = await allIds(log)
  t.same(ids((await cli(['query', '--email', ANA, '--json', ...at])).stdout), [all[1], all[0]])
  await redis.script('FLUSH')
  t.match(await cliHere(['stats', '--by', 'app', '--json', ...at]), { code: 0, stdout: /"app":"payroll","events":2/ })
  t.match(await cli(['query', '--event', 'x', ...at]), { code: 2, stderr: /: --event is "x", expected one of url.minted, .*audit.closed\n/ })
  t.same(await redis.call('FUNCTION', 'LIST'), [])
})

test('Redis Cluster: any node will do', { timeout: 90_000 }, async (t) => {
  const cluster = await startCluster(t)
  const client = cluster.connect()
  await loadLibrary(client as unknown as RedisLike)
  const log = new Log(client as unknown as Redis, STREAM)
  await log.add([...reused(2), { event: 'url.denied', email: BEN, app: 'stock', code: 'TOOLJET_EMBED_ACCESS_DENIED' }])
  const all = await allIds(log)
  for (const { url } of cluster.servers) {
    const at = ['--redis', url]
    t.same(ids((await cli(['query', '--email', ANA, '--json', ...at])).stdout), [all[1], all[0]])
    t.match(await cliHere(['stats', '--by', 'app', ...at]), { code: 0, stdout: /\npayroll +2 / })
    t.match(await cliHere(['verify', ...at], { env }), { code: 0, stdout: /\nintact/ })
    t.same(ids((await cliHere(['export', ...at])).stdout), all)
  }
  const tails = cluster.servers.map(({ url }) => Child.start(t, [auditFile(), 'tail', '--json', '--last', '1', '--redis', url], {}))
  for (const child of tails) await child.prints(all[2]!)
  await log.add(reused(3))
  for (const server of cluster.servers) {
    const admin = newClient(server.url)
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    admin.disconnect()
  }
  await log.add(reused(3))
  const after = await allIds(log)
  for (const child of tails) {
    await child.prints(after.at(-1)!)
    t.same(ids(child.output), after.slice(2))
    t.equal(await child.stop(), 0)
  }
  t.match(await cliOnTerminal(['verify', '--redis', cluster.servers[0]!.url], env), HAS_SCRIPT ? { code: 0 } : {})
})
