import { spawn, type ChildProcess } from 'node:child_process'
import { accessSync, constants, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { canUnpackRedis, unpackRedis } from './debian-redis.js'
import { WAYS_TO_REDIS } from './ways-to-redis.js'

/** A Redis to work with, and how it came about. */
export interface ProvidedRedis {
  url: string
  how: string
  stop (): Promise<void>
}

const START_MS = 15_000

/**
 * Finds or starts a Redis: `REDIS_URL`, a server binary on PATH, Docker, or Debian's package, in this order;
 * with `TEST_REDIS=testcontainers` Docker and nothing else.
 * @param preferredPort used for a server of our own when it is free
 * @param redisUrl instead of `REDIS_URL` of this process's environment
 * @throws when there is no way to a Redis, with all ways named
 */
export async function provideRedis (preferredPort?: number, redisUrl = process.env['REDIS_URL']): Promise<ProvidedRedis> {
  if (process.env['TEST_REDIS'] === 'testcontainers') return startContainer()
  if (redisUrl) return { url: redisUrl, how: 'REDIS_URL', stop: async () => {} }
  if (serverBinary() !== undefined) return startServer({ port: preferredPort, detached: true })
  if (dockerSocket() !== undefined) return startContainer()
  if (canUnpackRedis()) return startServer({ port: preferredPort, detached: true })
  throw new Error(['No Redis was found. Any of these gives one:', ...WAYS_TO_REDIS.map((way) => `- ${way}`)].join('\n'))
}

/** A Redis server of our own: one that may be stopped, stalled and started again. */
export interface RedisServer extends ProvidedRedis {
  port: number
  /** The server's process: for signals. */
  process: ChildProcess
}

/**
 * Starts a server on a free loopback port, with a folder of its own that is gone afterwards.
 * @param args further arguments of redis-server
 * @param config lines of a configuration file, which the server may rewrite
 * @param detached out of the reach of a Ctrl-C in the terminal, so that it ends after those who write to it
 */
export async function startServer ({ port, args = [], config, detached = false }: { port?: number | undefined, args?: string[], config?: string[], detached?: boolean } = {}): Promise<RedisServer> {
  const binary = serverBinary() ?? (canUnpackRedis() ? (unpackRedis(), serverBinary()) : undefined)
  if (binary === undefined) throw new Error('neither redis-server nor valkey-server is on PATH')
  const chosen = port !== undefined && await isFree(port) ? port : await freePort()
  const folder = mkdtempSync(join(tmpdir(), 'tooljet-embed-redis-'))
  const configFile = join(folder, 'redis.conf')
  if (config !== undefined) writeFileSync(configFile, `${config.join('\n')}\n`)
  const server = spawn(binary, [...(config === undefined ? [] : [configFile]), '--port', String(chosen), '--bind', '127.0.0.1', '--dir', folder, '--save', '', '--appendonly', 'no', ...args], { stdio: 'ignore', detached })
  const killOnExit = (): void => { server.kill('SIGKILL') }
  process.once('exit', killOnExit)
  const ended = new Promise<void>((resolve) => { server.once('close', () => resolve()) })
  const url = `redis://127.0.0.1:${chosen}`
  const stop = async (): Promise<void> => {
    process.off('exit', killOnExit)
    server.kill('SIGCONT')
    server.kill('SIGKILL')
    await ended
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    await answersPing(url, ended)
  } catch (error) {
    await stop()
    throw error
  }
  return { url, how: `${binary} on port ${chosen}`, port: chosen, process: server, stop }
}

async function startContainer (): Promise<ProvidedRedis> {
  const socket = dockerSocket()
  if (socket === undefined) throw new Error('Docker was not found: DOCKER_HOST is not set, and there is no socket of Docker that this user may open')
  if (/[./]colima\//.test(socket) && !process.env['DOCKER_HOST']) { // which testcontainers does not look for
    process.env['DOCKER_HOST'] = `unix://${socket}`
    process.env['TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE'] ??= '/var/run/docker.sock' // its name inside Colima's machine
  }
  const { GenericContainer, Wait } = await import('testcontainers')
  const container = await new GenericContainer('redis:7-alpine')
    .withExposedPorts(6379)
    .withWaitStrategy(Wait.forLogMessage('Ready to accept connections'))
    .start()
  const url = `redis://${container.getHost()}:${container.getMappedPort(6379)}`
  return { url, how: 'a redis:7-alpine container', stop: async () => { await container.stop() } }
}

/** Where Docker listens: where testcontainers looks, which is Docker Engine, Docker Desktop and rootless Docker, and Colima. */
export function dockerSocket ({ env = process.env, platform = process.platform as string, home = homedir() } = {}): string | undefined {
  if (env['DOCKER_HOST']) return env['DOCKER_HOST']
  if (platform === 'win32') return ['//./pipe/docker_engine'].find(existsSync)
  return [
    '/var/run/docker.sock',
    ...(env['XDG_RUNTIME_DIR'] ? [join(env['XDG_RUNTIME_DIR'], 'docker.sock')] : []),
    join(home, '.docker/run/docker.sock'),
    join(home, '.docker/desktop/docker.sock'),
    `/run/user/${process.getuid?.()}/docker.sock`,
    join(home, '.colima/default/docker.sock'),
    join(env['XDG_CONFIG_HOME'] || join(home, '.config'), 'colima/default/docker.sock'),
  ].find((path) => isAllowed(path, constants.R_OK | constants.W_OK))
}

function isAllowed (path: string, mode: number): boolean {
  try {
    accessSync(path, mode)
    return true
  } catch {
    return false
  }
}

function serverBinary (): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter)
  return ['redis-server', 'valkey-server'].flatMap((name) => folders.map((folder) => join(folder, name))).find((path) => isAllowed(path, constants.X_OK))
}

async function answersPing (url: string, ended: Promise<void>): Promise<void> {
  const giveUpAt = Date.now() + START_MS
  const server = { hasEnded: false }
  ended.then(() => { server.hasEnded = true }, () => {})
  while (Date.now() < giveUpAt && !server.hasEnded) {
    const client = new Redis(url, { lazyConnect: true, retryStrategy: () => null, maxRetriesPerRequest: 0 })
    client.on('error', () => {})
    const pong = await client.connect().then(() => client.ping()).catch(() => undefined)
    client.disconnect()
    if (pong === 'PONG') return
    await sleep(20)
  }
  throw new Error(`the Redis server at ${url} did not start`)
}

function isFree (port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}

export function freePort (): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
}
