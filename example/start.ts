import { fork, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Static } from '@sinclair/typebox'
import { readEnv, startEnv } from './env.js'
import { usersOf } from './portal/users.js'
import { whenNpmIsGone } from './npm.js'
import { provideRedis, type ProvidedRedis } from './redis.js'
import { ToolJetStandIn } from './tooljet/server.js'

type Env = Static<typeof startEnv>

const MAX_INSTANCES = 64
const HELP = `npm start [-- OPTIONS]

Starts a small portal on http://localhost:3001, with ToolJet apps for five demo users, and what it needs: a stand-in for
ToolJet, and a Redis, if one can be found or started. Without Redis the portal works from its own memory.

  --instances N  so many portals that share Redis, on ports in a row (1 to ${MAX_INSTANCES}; default: 1)
  --help         shows this

Settings are variables of the environment, or lines of the file .env. .env.example has all of them, such as

  PORT=3401 npm start
  REDIS_URL=redis://127.0.0.1:6379 npm start
  TOOLJET_URL=https://tooljet.example.com TOOLJET_API_TOKEN=... npm start`
const QUERIES = [
  'XREVRANGE tooljet-embed:audit + - COUNT 5',
  'FCALL_RO tooljet_audit 1 tooljet-embed:audit outcome failure since 1h',
  'FCALL_RO tooljet_audit_stats 1 tooljet-embed:audit by event since 30d',
]
const STAND_IN_TOKEN = 'tooljet-demo-token'
const STAND_IN_ENCRYPTION_KEY = 'encryption-demo-key'
/** A portal that has not closed by then is killed. */
const STOP_MS = 10_000

/** What has been started, and how it is stopped: last one first. */
const stops: Array<() => Promise<unknown>> = []
let ending: Promise<never> | undefined

function end (exitCode: number): Promise<never> {
  ending ??= (async () => {
    for (const stop of stops.reverse()) await stop().catch(() => {})
    process.exit(exitCode)
  })()
  return ending
}

/** Waits for a part; nothing goes on after it when Ctrl-C came meanwhile. */
async function started<T> (part: Promise<T>, stop: (part: T) => Promise<unknown>): Promise<T> {
  stops.push(async () => stop(await part))
  const value = await part
  if (ending !== undefined) await ending
  return value
}

async function start (): Promise<void> {
  const { instances, help } = readArguments()
  if (help) {
    console.log(HELP)
    return end(0)
  }
  const env = readEnv(startEnv, { file: true })
  if (Boolean(env.TOOLJET_URL) !== Boolean(env.TOOLJET_API_TOKEN)) throw new Error('TOOLJET_URL and TOOLJET_API_TOKEN go together, and only one of them is set')
  const ports = portalPorts(env.PORT, instances)
  for (const port of ports) if (!await isFree(port)) throw new Error(`port ${port} is already in use; PORT=… chooses another`)

  const redis = await redisOrNone(env.REDIS_URL)
  const tooljet = await provideToolJet(env, ports)
  console.log(ports.length === 1 ? 'Starting the portal …' : `Starting ${ports.length} portals …`)

  const portalEnv = {
    ...process.env,
    REDIS_URL: redis?.url ?? 'none',
    TOOLJET_URL: tooljet.url,
    TOOLJET_API_TOKEN: tooljet.apiToken,
    ENCRYPTION_KEY: env.ENCRYPTION_KEY ?? tooljet.encryptionKey,
    JWT_SECRET: env.JWT_SECRET ?? randomBytes(32).toString('base64url'), // one for all: a session is good on each portal
  }
  const portals: ChildProcess[] = []
  stops.push(() => Promise.all(portals.map(stopPortal)))
  await Promise.all(ports.map(async (port) => {
    const portal = forkPortal(port, portalEnv)
    portals.push(portal)
    await Promise.race([once(portal, 'message'), once(portal, 'exit')]) // the message: it listens
    if (ending !== undefined) await ending
  }))
  console.log(summary(env, ports, tooljet.how, redis))
}

function readArguments (): { instances: number, help: boolean } {
  const { instances, help } = parse()
  if (!/^\d+$/.test(instances) || Number(instances) < 1 || Number(instances) > MAX_INSTANCES) throw new Error(`--instances is "${instances}", expected a whole number from 1 to ${MAX_INSTANCES}`)
  return { instances: Number(instances), help }
}

function parse (): { instances: string, help: boolean } {
  try {
    return parseArgs({ options: { instances: { type: 'string', default: '1' }, help: { type: 'boolean', short: 'h', default: false } } }).values
  } catch (error) {
    const [what] = (error as Error).message.split('. ') // its advice is for other programs
    throw new Error(`${what}; "npm start -- --help" shows the options (all that is for the example comes after "--")`)
  }
}

function portalPorts (first: number, instances: number): number[] {
  const ports = Array.from({ length: instances }, (_, i) => first + i)
  if (ports.at(-1)! > 65_535) throw new Error(`PORT is ${first}, and there are not ${instances} ports from there on`)
  return ports
}

/** A Redis, unless there is none and no way to one. */
async function redisOrNone (url: string | undefined): Promise<ProvidedRedis | undefined> {
  if (url === 'none') return undefined
  if (url === undefined) console.log('Starting Redis …')
  try {
    return await started(provideRedis(6379, url), (redis) => redis.stop())
  } catch (error) {
    console.log(`${(error as Error).message}\nThe portal goes on without Redis.\n`)
  }
}

/** The ToolJet of the environment, or the stand-in. */
async function provideToolJet (env: Env, taken: number[]): Promise<{ url: string, apiToken: string, encryptionKey?: string, how: string }> {
  const { TOOLJET_URL: url, TOOLJET_API_TOKEN: apiToken } = env
  if (url && apiToken) return { url, apiToken, how: `${url} (TOOLJET_URL)` }

  console.log('Starting ToolJet …')
  const port = !taken.includes(3000) && await isFree(3000) ? 3000 : 0
  const standIn = new ToolJetStandIn({ port, host: 'localhost', apiToken: STAND_IN_TOKEN, mintsPerMinute: 10 })
  await started(standIn.listen(), () => standIn.close())
  return { url: standIn.url, apiToken: STAND_IN_TOKEN, encryptionKey: STAND_IN_ENCRYPTION_KEY, how: `${standIn.url} (a stand-in: TOOLJET_URL and TOOLJET_API_TOKEN are not set)` }
}

/** `localhost` is two addresses: the port must be free on both. */
async function isFree (port: number): Promise<boolean> {
  for (const host of ['127.0.0.1', '::1']) {
    const error = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
      const server = createServer().once('error', resolve)
      server.listen(port, host, () => server.close(() => resolve(undefined)))
    })
    if (error?.code === 'EADDRINUSE') return false
  }
  return true
}

function forkPortal (port: number, portalEnv: NodeJS.ProcessEnv): ChildProcess {
  const portal = fork(fileURLToPath(new URL('portal/server.ts', import.meta.url)), {
    cwd: fileURLToPath(new URL('..', import.meta.url)),
    execArgv: ['--import', import.meta.resolve('tsx')],
    env: { ...portalEnv, PORT: String(port) },
    detached: true, // Ctrl-C in the terminal comes to this process alone, which then stops all in order
  })
  portal.once('exit', (code, signal) => {
    if (ending !== undefined) return
    console.error(`The portal on port ${port} has ended by itself (${signal ?? `exit code ${code}`}). Everything else stops too.`)
    end(1)
  })
  return portal
}

async function stopPortal (portal: ChildProcess): Promise<void> {
  if (portal.exitCode !== null || portal.signalCode !== null) return
  const ended = once(portal, 'exit')
  portal.kill('SIGTERM')
  await Promise.race([ended, sleep(STOP_MS, undefined, { ref: false })])
  portal.kill('SIGKILL')
  await ended
}

function summary (env: Env, ports: number[], tooljet: string, redis: ProvidedRedis | undefined): string {
  const users = usersOf(env.DEMO_USERS, env.DEMO_ADMIN)
  const admin = users.find(({ isAdmin }) => isAdmin)
  const column = Math.max(...users.map(({ email }) => email.length))
  return [
    '',
    ...ports.map((port) => `  Portal    http://localhost:${port}`),
    `  ToolJet   ${tooljet}`,
    `  Redis     ${redis?.how ?? 'none: links and audit events are in the memory of each portal, and go when it ends'}`,
    '',
    '  Sign in as',
    ...users.map(({ email, note }) => `    ${email.padEnd(column)}  ${note}`),
    '',
    '  Audit log',
    ...(admin === undefined ? [] : [`    http://localhost:${ports[0]}/admin/audit as ${admin.email}`]),
    ...(redis === undefined ? [] : QUERIES.map((query) => `    ${redisCli(redis.url)} ${query}`)),
    '',
    '  Metrics, and the API',
    `    http://localhost:${ports[0]}/metrics and /docs`,
    '',
    '  Ctrl-C stops all of it.',
    '',
  ].join('\n')
}

/** How to reach this Redis with redis-cli, without showing a password. */
function redisCli (url: string): string {
  const { protocol, hostname, port, username, password, pathname } = new URL(url)
  const isPlain = protocol === 'redis:' && username === '' && password === '' && /^\/?0?$/.test(pathname)
  if (!isPlain) return 'redis-cli -u "$REDIS_URL"'
  return [
    'redis-cli',
    ...(['localhost', '127.0.0.1'].includes(hostname) ? [] : ['-h', hostname]),
    ...(['', '6379'].includes(port) ? [] : ['-p', port]),
  ].join(' ')
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => { end(0) })
whenNpmIsGone(() => { end(0) })
try {
  await start()
} catch (error) {
  if (ending === undefined) console.error(`The example cannot start: ${(error as Error).message}`)
  await end(1)
}
