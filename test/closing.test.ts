import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { AddressInfo } from 'node:net'
import { t as tap, test, type Test } from 'tap'
import { request } from 'undici'
import { freePort } from '../example/redis.js'
import { ANA, API_TOKEN, BEN, newPrefix, Portal, readStream, releaseRedisAfter, SALES } from './support/portal.js'
import { plainEnv } from './support/plain-env.js'
import { sharedRedisUrl } from './support/redis.js'
import { stopwatch } from './support/stopwatch.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

test('what asks on after the close mints no more', async (t) => {
  let letGo!: () => void
  const held = new Promise<void>((resolve) => { letGo = resolve })
  let isHeld = false
  const portal = await Portal.open(t, { options: { authorize: async () => { isHeld = true; await held; return true } } })
  const late = portal.ask(ANA)
  await until('it is held', () => isHeld)
  await portal.app.close()
  letGo()
  t.match(await late, { status: 503, body: { code: 'TOOLJET_EMBED_UNAVAILABLE' } })
  t.equal(portal.toolJet.calls.length, 0)
})

/** A portal that listens, and asks it over HTTP. */
async function listening (t: Test, options: object = {}) {
  const portal = await Portal.open(t, { options, fastify: { forceCloseConnections: 'idle' } })
  await portal.app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = portal.app.server.address() as AddressInfo
  const ask = async (email: string) => {
    const reply = await request(`http://127.0.0.1:${port}/api/get-tooljet-url`, {
      method: 'POST',
      headers: { ...portal.bearer(email), 'content-type': 'application/json' },
      body: JSON.stringify({ appId: SALES.id }),
      reset: true, // Fastify itself waits for a kept-alive connection that was busy when it closed
    })
    return { status: reply.statusCode, body: await reply.body.json() as { source: string, code: string } }
  }
  return { portal, ask }
}

test('close in the middle of a mint answers it, and leaves no lock and no gap', async (t) => {
  const { portal, ask } = await listening(t)
  portal.toolJet.faults = () => ({ delayMs: 400 })
  const asks = [ask(ANA), ask(ANA), ask(BEN)]
  await until('the mints are under way', () => portal.toolJet.calls.length === 2)
  await portal.app.close()
  const replies = await Promise.all(asks)
  t.same(replies.map(({ status }) => status), [200, 200, 200])
  t.same(await portal.cached('lock'), [])
  const events = (await readStream(portal.redis, `${portal.prefix}audit`)).map(({ event }) => event)
  t.same(events.toSorted(), ['audit.closed', 'audit.opened', 'url.minted', 'url.minted', 'url.reused'])
  t.equal(events.at(-1), 'audit.closed')
})

test('close does not wait for ToolJet past its deadline, nor for a Redis that is away', async (t) => {
  const { portal, ask } = await listening(t, { tooljet: { url: `http://127.0.0.1:${await freePort()}`, apiToken: API_TOKEN, timeoutMs: 600 } })
  portal.toolJet.faults = () => ({ hang: true })
  const hanging = await listening(t, { tooljet: { url: portal.toolJet.url, apiToken: API_TOKEN, timeoutMs: 600 } })
  const asked = hanging.ask(ANA)
  await until('the mint is under way', () => portal.toolJet.calls.length === 1)
  const waited = stopwatch()
  await hanging.portal.app.close()
  t.ok(waited() < 2000)
  t.match(await asked, { status: 504, body: { code: 'TOOLJET_EMBED_TIMEOUT' } })
  t.equal((await ask(BEN)).status, 503)

  const lonely = await Portal.open(t, { redisUrl: `redis://127.0.0.1:${await freePort()}`, options: { redisTimeoutMs: 200 } })
  await lonely.ask(ANA)
  const waitedAlone = stopwatch()
  await lonely.app.close()
  t.ok(waitedAlone() < 1500)
})

test('a host that has closed leaves no handle behind, and is not left before: its process ends by itself', { timeout: 200_000 }, async (t) => {
  const { toolJet } = await Portal.open(t)
  const [written, unwritten] = [/^200 0 [01]$/, /^200 3 0$/] // Redis may still have to end its side
  for (const [redis, said] of [[await sharedRedisUrl(), written], [`redis://127.0.0.1:${await freePort()}`, unwritten], [undefined, unwritten]]) {
    const options = { tooljet: { url: toolJet.url, apiToken: API_TOKEN }, redis, keyPrefix: newPrefix(), redisTimeoutMs: 300 }
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', fileURLToPath(new URL('support/leaver.ts', import.meta.url)), JSON.stringify(options)], { env: plainEnv(), timeout: 60_000 })
    t.match(stdout.trim(), said, `${redis}: events that only the log has, and timers`)
  }
})
