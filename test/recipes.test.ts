import { execFile, execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Redis } from 'ioredis'
import { test, type Test } from 'tap'
import { startServer } from '../example/redis.js'
import { reindex } from '../plugin/audit/reindex.js'
import { loadLibrary } from '../plugin/audit/functions.js'
import { entriesOf, writeEvents } from './support/audit-log.js'
import { plainEnv } from './support/plain-env.js'
import { newClient } from './support/redis-client.js'

/*
 * Every line of README.md and docs/audit.md for redis-cli or tooljet-embed-audit, run as it is written there.
 */

const run = promisify(execFile)
const root = fileURLToPath(new URL('..', import.meta.url))
const texts = ['README.md', 'docs/audit.md'].map((file) => readFileSync(join(root, file), 'utf8'))
const recipes = texts.flatMap((text) => [...text.matchAll(/^```sh\n([^`]*)^```/gm)].flatMap(([, block]) => (
  block!.replaceAll('\\\n', '').split('\n').filter((line) => /^(?:redis-cli|node_modules\/\.bin\/tooljet-embed-audit) /.test(line))
)))

const redisCli = ((): string | undefined => {
  try {
    return execFileSync('bash', ['-c', 'command -v redis-cli'], { encoding: 'utf8' }).trim()
  } catch {
    return undefined
  }
})()

const STREAM = 'tooljet-embed:audit'
const TUESDAY = Date.parse('2026-11-17T09:00Z')

const OPTIONS = { timeout: 120_000, skip: redisCli === undefined && 'there is no redis-cli on this machine' }
const tried = new Set<string>()

interface Shell {
  redis: Redis
  url: string
  /** Runs the recipe that contains this text, as written. @returns what redis-cli prints into a pipe, by lines */
  sh: (part: string, change?: (line: string) => string) => Promise<string[]>
}

/** A server of its own with a log under the default names, and a folder in which the package is installed. */
async function openShell (t: Test): Promise<Shell> {
  const server = await startServer()
  const redis = newClient(server.url)
  const folder = mkdtempSync(join(tmpdir(), 'tooljet-embed-recipes-'))
  mkdirSync(join(folder, 'node_modules', '.bin'), { recursive: true })
  symlinkSync(root, join(folder, 'node_modules', 'fastify-tooljet-embed'))
  mkdirSync(join(folder, 'bin'))
  writeFileSync(join(folder, 'bin', 'redis-cli'), `#!/bin/sh\nexec '${redisCli}' -p ${server.port} "$@"\n`, { mode: 0o755 })
  writeFileSync(join(folder, 'node_modules', '.bin', 'tooljet-embed-audit'), `#!/bin/sh\nexec '${process.execPath}' node_modules/fastify-tooljet-embed/dist/cli/audit.js "$@"\n`, { mode: 0o755 })
  t.teardown(async () => {
    redis.disconnect()
    await server.stop()
    rmSync(folder, { recursive: true })
  })
  const sh = async (part: string, change = (line: string): string => line): Promise<string[]> => {
    const found = recipes.filter((line) => line.includes(part))
    if (found.length !== 1) throw new Error(`${found.length} recipes have "${part}"`)
    tried.add(found[0]!)
    const { stdout } = await run('bash', ['-euc', change(found[0]!)], { cwd: folder, env: { ...plainEnv(), REDIS_URL: server.url, PATH: `${folder}/bin:${process.env['PATH']}` } })
    return stdout.trimEnd().split('\n')
  }
  await loadLibrary(redis)
  await fill(redis)
  return { redis, url: server.url, sh }
}

/** Events of last Tuesday, then of now. */
async function fill (redis: Redis): Promise<void> {
  const event = (seq: number, email: string, app: string, failed: boolean): Record<string, string> => ({
    time: new Date().toISOString(),
    event: failed ? 'url.denied' : 'url.minted',
    outcome: failed ? 'failure' : 'success',
    ...(failed && { code: 'TOOLJET_EMBED_ACCESS_DENIED' }),
    email,
    app,
    ip: '192.0.2.7',
    instance: 'portal-1',
    seq: String(seq),
  })
  for (const [i, email] of ['ana@acme.test', 'cleo@acme.test'].entries()) {
    const { time: _, ...fields } = event(i + 1, email, 'payroll', email.startsWith('cleo'))
    await redis.xadd(STREAM, `${TUESDAY + i}-0`, ...Object.entries({ time: new Date(TUESDAY + i).toISOString(), ...fields }).flat())
  }
  await reindex(redis, STREAM)
  await writeEvents(redis, STREAM, 30, { make: (seq) => event(seq + 2, seq % 3 === 0 ? 'ana@acme.test' : 'ben@acme.test', seq % 2 === 0 ? 'payroll' : 'sales', seq % 10 === 0) })
}

const NO_PERMISSION = { message: /NOPERM|permission/i }

/** One of the users that the ACL recipes make. */
function asUser (t: Test, url: string, username: 'auditor' | 'tooljet-embed'): Redis {
  const password = { auditor: 'change-me-too', 'tooljet-embed': 'change-me' }[username]
  const client = newClient(Object.assign(new URL(url), { username, password }).href)
  t.teardown(() => client.disconnect())
  return client
}

test('the functions are loaded from the file of the package', OPTIONS, async (t) => {
  const { redis, sh } = await openShell(t)
  await redis.call('FUNCTION', 'FLUSH')
  t.same(await sh('FUNCTION LOAD REPLACE <'), ['tooljet_embed'])
})

test('redis-cli queries the log by app, e-mail, code and time, with functions and without', OPTIONS, async (t) => {
  const { sh } = await openShell(t)
  const tuesday = await sh('app payroll since 2026-11-17')
  t.equal(tuesday[0], '0-0')
  t.same(tuesday.filter((line) => /@/.test(line)), ['cleo@acme.test', 'ana@acme.test'])
  t.same(tuesday.filter((line) => /^url\./.test(line)), ['url.denied', 'url.minted'])
  t.ok(tuesday.includes('192.0.2.7'))
  t.equal((await sh('email ana@acme.test            #')).filter((line) => line === 'ana@acme.test').length, 11)
  t.equal((await sh('code ACCESS_DENIED since 24h')).filter((line) => line === 'TOOLJET_EMBED_ACCESS_DENIED').length, 3)
  const onTuesday = TUESDAY > Date.now() - 7 * 86_400_000 ? 2 : 0
  t.match((await sh('by event since 30d')).join(' '), /^0-0 url\.minted events 2\d minted .* total events 32 /)
  t.match((await sh('by hour,app since 7d')).join(' '), new RegExp(`^0-0 .*:00Z,payroll events .* total events ${30 + onTuesday} `))
  t.equal((await sh('--eval')).filter((line) => line === 'ana@acme.test').length, 11)
  t.same((await sh('--eval', (line) => line.replace(', email ana@acme.test', ', stats by app'))).slice(0, 4), ['0-0', 'payroll', 'events', '17'], 'as is said there, with "stats by app"')
})

test('XREAD BLOCK shows the events to come', OPTIONS, async (t) => {
  const { redis, sh } = await openShell(t)
  const reading = sh('XREAD BLOCK')
  const [blocked] = await Promise.all([reading, (async () => {
    while (!/blocked_clients:1/.test(await redis.info('clients'))) await new Promise(setImmediate)
    await redis.xadd(STREAM, '*', 'event', 'url.reused')
  })()])
  t.ok(blocked.includes('url.reused'))
})

test('tooljet-embed-audit queries, verifies and exports the log', OPTIONS, async (t) => {
  const { redis, sh } = await openShell(t)
  const query = await sh('audit query')
  t.equal(query.length, 3)
  t.match(query.join(' '), /cleo@acme\.test .* ana@acme\.test /)
  t.match(await sh('audit tail', (line) => `timeout --foreground --preserve-status 3 ${line}`), { length: 5 }, 'a title, and the four that were refused')
  t.match((await sh('audit stats')).join('\n'), /^payroll +1\d /m)
  t.same(await sh('audit reindex  '), ['32 events indexed'])
  const forged = await sh('audit verify --key-file /run/secrets/tooljet-embed   #', (line) => `echo key > key; ${line.replace(/#.*/, '').replace('/run/secrets/tooljet-embed', 'key')} || echo "exit code $?"`)
  t.match(forged.at(-1), 'exit code 1')
  const key = (line: string): string => line.replace('/run/secrets/tooljet-embed', 'key').replace('/var/log/portal/*.log*', '*.log*')
  t.match(await sh('audit verify --key-file /run/secrets/tooljet-embed --log', (line) => `echo '{}' > app.log; gzip -c app.log > app.log.1.gz; ${key(line)} || echo "exit code $?"`), { length: 4 })
  await sh('audit export')
  await sh('audit export')
  const exported = await sh('audit export', (line) => `${line}\ncat audit.ndjson`)
  t.same(exported.map((line) => (JSON.parse(line) as { id: string }).id), (await entriesOf(redis, STREAM)).map(({ id }) => id), 'each once')
})

test('a consumer group gives each event at least once', OPTIONS, async (t) => {
  const { redis, sh } = await openShell(t)
  const entries = await entriesOf(redis, STREAM)
  const idsIn = (lines: string[]): string[] => lines.filter((line) => /^\d{13}-\d+$/.test(line))
  t.same(await sh('XGROUP CREATE'), ['OK'])
  const given = idsIn(await sh('XREADGROUP'))
  t.same(given, entries.map(({ id }) => id))
  t.same(await sh('XACK', (line) => line.replace('1795372562534-0', given.slice(0, 30).join(' '))), ['30'])
  t.same(idsIn(await sh('XREADGROUP', (line) => line.replace("'>'", '0'))), given.slice(30), 'after a restart, what was not confirmed')
  t.same(idsIn(await sh('XAUTOCLAIM', (line) => line.replace('60000', '0'))), given.slice(30), 'another worker takes over')
  t.equal((await sh('XAUTOCLAIM'))[0], '0-0', 'but not before a minute has passed')
  const groups = texts[1]!.match(/`(redis-cli XINFO GROUPS [^`]+)`/)![1]!
  t.match(await redis.call(...groups.split(' ').slice(1) as [string]), [{ length: 12 }])
})

test('the auditor of the ACL recipes queries, and does nothing else', OPTIONS, async (t) => {
  const { redis, url, sh } = await openShell(t)
  t.same(await sh('ACL SETUSER auditor reset'), ['OK'])
  const auditor = asUser(t, url, 'auditor')
  t.match(await auditor.call('FCALL_RO', 'tooljet_audit', '1', STREAM, 'email', 'ana@acme.test'), ['0-0', { length: 11 }])
  t.match(await auditor.call('FCALL_RO', 'tooljet_audit_stats', '1', STREAM, 'by', 'app'), ['0-0'])
  t.ok((await auditor.xrange(STREAM, '-', '+')).length > 0)
  await redis.set('{tooljet-embed:x}:url:id:1', 'sealed')
  for (const command of [['GET', '{tooljet-embed:x}:url:id:1'], ['XADD', STREAM, '*', 'a', 'b'], ['XDEL', STREAM, '1-1'], ['DEL', STREAM], ['EVAL', 'return 1', '0'], ['KEYS', '*'], ['FUNCTION', 'DELETE', 'tooljet_embed'], ['CONFIG', 'GET', '*']]) {
    await t.rejects(auditor.call(...command as [string]), NO_PERMISSION, command.join(' '))
  }
})

test('the user of the ACL recipes for the plugin adds to the log, and does nothing else to it', OPTIONS, async (t) => {
  const { url, sh } = await openShell(t)
  t.same(await sh('ACL SETUSER tooljet-embed'), ['OK'])
  const plugin = asUser(t, url, 'tooljet-embed')
  await plugin.call('XADD', STREAM, '*', 'event', 'url.reused')
  for (const command of [['XDEL', STREAM, '1-1'], ['DEL', STREAM], ['SET', STREAM, 'x'], ['RENAME', STREAM, 'x'], ['XSETID', STREAM, '9999999999999-0'], ['PEXPIRE', STREAM, '1'], ['RESTORE', STREAM, '0', 'x'], ['COPY', STREAM, 'tooljet-embed:x'], ['FUNCTION', 'LOAD', 'x'], ['FLUSHALL'], ['KEYS', '*'], ['SET', 'elsewhere', '1']]) {
    await t.rejects(plugin.call(...command as [string]), NO_PERMISSION, command.join(' '))
  }
  await t.rejects(plugin.eval("return redis.call('DEL', KEYS[1])", 1, STREAM), { message: /can't access at least one of the keys/ })
})

test('an archive is queried by its indexes, and checked by the name that the log had', OPTIONS, async (t) => {
  const { redis, url, sh } = await openShell(t)
  for (const user of ['tooljet-embed', 'auditor reset']) await sh(`ACL SETUSER ${user}`)
  t.same(await sh('COPY'), ['1'])
  t.same(await sh('audit reindex --stream'), [`${await redis.xlen(STREAM)} events indexed`])
  t.match((await sh('--name tooljet-embed:audit', (line) => `echo key > key; ${line.replace('/run/secrets/tooljet-embed', 'key')} || echo "exit code $?"`)).at(-1), 'exit code 1', 'these events have no macs')
  t.same(await sh("ACL SETUSER auditor '%"), ['OK'])
  const auditor = asUser(t, url, 'auditor')
  const archive = 'archive:{tooljet-embed:audit}:2026'
  t.match(await auditor.call('FCALL_RO', 'tooljet_audit', '1', archive, 'email', 'ana@acme.test'), ['0-0', { length: 11 }], 'by its indexes')
  await t.rejects(auditor.call('DEL', archive), NO_PERMISSION)
  const plugin = asUser(t, url, 'tooljet-embed')
  await t.rejects(plugin.call('DEL', archive), NO_PERMISSION)
})

test('every recipe of README and docs/audit.md was tried above', OPTIONS, async (t) => {
  t.same(recipes.filter((line) => !tried.has(line)), [])
})
