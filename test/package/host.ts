import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import { freePort } from '../../example/redis.js'
import { SALES } from '../../example/tooljet/seed.js'
import { plainEnv } from '../support/plain-env.js'
import { until } from '../support/until.js'

export interface Host {
  /** Its project. */
  cwd: string
  /** Path of the Node.js that runs it. */
  node: string
  args: string[]
  env: Record<'TOOLJET_URL' | 'TOOLJET_API_TOKEN' | 'REDIS_URL' | 'JWT_SECRET', string>
  /** Whoever signs in, for the first time. */
  email: string
  /** It has a route that uses the decorator. */
  hasDashboard: boolean
}

/** Starts a host, asks it for a URL as a page does, and ends it. @throws when it does not do as it should, with all that it printed */
export async function tryHost ({ cwd, node, args, env, email, hasDashboard }: Host): Promise<void> {
  const port = await freePort()
  const child = spawn(node, args, { cwd, env: { ...plainEnv(), ...env, PORT: String(port) }, stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = once(child, 'close')
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => { output += text })
  try {
    await ask(`http://localhost:${port}`, await bearer(env.JWT_SECRET, email), hasDashboard, () => assert.equal(child.exitCode, null, 'it ended'))
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${output}`)
  } finally {
    child.kill('SIGTERM')
    if (await Promise.race([ended, sleep(10_000, 'late', { ref: false })]) === 'late') child.kill('SIGKILL')
    await ended
  }
}

async function ask (origin: string, headers: { authorization: string }, hasDashboard: boolean, mustRun: () => void): Promise<void> {
  const get = (path: string) => fetch(new URL(path, origin), { headers })
  const post = (by = {}) => fetch(new URL('/api/get-tooljet-url', origin), {
    method: 'POST', headers: { 'content-type': 'application/json', ...by }, body: JSON.stringify({ appId: SALES.id }),
  })
  const anonymous = await until('it listens', () => {
    mustRun()
    return post().catch(() => undefined)
  }, 30_000)
  assert.equal(anonymous.status, 401)
  const url = await (await post(headers)).json() as Record<string, unknown>
  assert.equal(url['source'], 'minted', JSON.stringify({ ...url, redirectUrl: undefined }))
  assert.equal((await (await post(headers)).json() as Record<string, unknown>)['source'], 'reused')
  if (hasDashboard) assert.match(String((await (await get('/dashboard')).json() as Record<string, unknown>)['redirectUrl']), /^http/)
  assert.match((await get('/tooljet-embed.js')).headers.get('content-type') ?? '', /javascript/)
}

async function bearer (secret: string, email: string): Promise<{ authorization: string }> {
  const signer = Fastify()
  await signer.register(fastifyJwt, { secret })
  return { authorization: `Bearer ${signer.jwt.sign({ email })}` }
}
