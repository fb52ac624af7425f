import { t as tap, test } from 'tap'
import { startServer } from '../example/redis.js'
import type { Fault } from '../example/tooljet/server.js'
import { ANA, API_TOKEN, BEN, CLEO, INVENTORY, JWT_SECRET, Portal, releaseRedisAfter, SALES } from './support/portal.js'
import { refusal } from './support/refusal.js'
import { newClient } from './support/redis-client.js'

releaseRedisAfter(tap)

test('after a full run no secret is in a log line, an audit field, an error or readable in Redis', async (t) => {
  const encryptionKey = 'encryption-key-of-the-tests-55aa'
  const portal = await Portal.open(t, { options: { encryptionKey, rateLimit: { max: 30 } } })
  const errors: string[] = []
  const tokens: string[] = []
  const faults: (Fault | undefined)[] = [
    undefined, { cut: 'before' }, { cut: 'middle' }, { reply: { status: 500 } }, refusal(403, 'Unauthorized'),
    { reply: { status: 201, body: { redirectUrl: 'https://evil.example/?personal-access-token=pat_deadbeefdeadbeef' } } }, { reply: { status: 429, headers: { 'retry-after': '1' } } },
  ]
  for (const fault of faults) {
    portal.toolJet.faults = () => fault
    for (const [email, app] of [[ANA, SALES.id], [BEN, INVENTORY.id], [CLEO, SALES.id]] as const) {
      const { authorization } = portal.bearer(email)
      tokens.push(authorization.slice('Bearer '.length))
      const { status, body } = await portal.ask(email, { appId: app, replaces: 'x' }, { authorization, 'user-agent': authorization })
      if (status === 200) tokens.push(body.redirectUrl)
      else errors.push(JSON.stringify(body))
      await portal.askByDecorator(email, { appId: app })
      await portal.app.tooljetEmbed.forget({ email, appId: app })
    }
  }
  await portal.audit()
  const fromRedis = await portal.dumpRedis()
  await portal.app.close()
  const secrets = [API_TOKEN, JWT_SECRET, encryptionKey, 'personal-access-token=', 'redirectUrl', 'deadbeef', ...tokens, ...portal.toolJet.tokens.all.map(({ token }) => token)]
  t.ok(portal.toolJet.tokens.all.length >= 2 && errors.length > 8 && portal.logLines.length > 50, 'the run was a full one')
  for (const [where, text] of Object.entries({ log: portal.logText, redis: fromRedis, errors: errors.join('\n') })) {
    for (const secret of secrets) t.notOk(text.includes(secret), `${where}: ${secret.slice(0, 12)}…`)
  }
  t.ok(portal.logText.includes(ANA) && fromRedis.includes(ANA), 'this test can see what is there')
})

test('a token is not told, by whatever way it came; and no text keeps the process busy', async (t) => {
  const { authorization } = (await Portal.open(t)).bearer(ANA)
  const token = authorization.slice('Bearer '.length)
  const portal = await Portal.open(t, { options: { authorize: () => { throw Object.assign(new Error('no'), { code: token }) } } })
  await portal.ask(ANA, { appSlug: 'x' })
  t.match(await portal.audit(), [{ code: '[redacted]' }])

  const before = process.cpuUsage()
  t.equal((await portal.ask(ANA, { app: 'eyJ'.repeat(5000) })).status, 400)
  t.equal((await portal.ask(ANA, {}, { 'user-agent': 'eyJ'.repeat(4000) })).status, 400)
  t.ok(process.cpuUsage(before).user < 1_000_000, 'it took ten seconds when each look began anew at each letter')
})

test('what looks like a token, whole or cut, is no slug; a word that only resembles one is', async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: false } })
  const jwt = portal.bearer(ANA).authorization.slice('Bearer '.length)
  const pieces = [...jwt.split('.').slice(0, 2), jwt.split('.')[0]!.slice(0, 12), 'pat_0123', 'a-pat_0123abcd', `xpat_${'0'.repeat(32)}`, 'PAT_deadbeef']
  for (const appSlug of pieces) t.match(await portal.ask(ANA, { appSlug }), { status: 400 }, appSlug)
  for (const appSlug of ['monkeyjungle-sales', 'keyjobs-and-more', 'compat_settings', 'dispatch']) {
    t.match(await portal.ask(ANA, { appSlug }), { status: 404 }, appSlug)
    t.match((await portal.audit()).at(-1), { app: appSlug })
  }
  const text = JSON.stringify(await portal.audit()) + portal.logText
  for (const piece of pieces.filter((piece) => piece !== 'pat_0123')) t.notOk(text.includes(piece), piece)
})

test("what Redis refuses is logged without the command's arguments", async (t) => {
  const password = 'password-of-redis-91c4'
  const server = await startServer()
  t.teardown(() => server.stop())
  const admin = newClient(server.url)
  t.teardown(() => admin.disconnect())
  await admin.config('SET', 'requirepass', 'another')
  const portal = await Portal.open(t, { options: { redis: server.url.replace('redis://', `redis://:${password}@`) } })
  t.equal((await portal.ask(ANA)).status, 200)
  const told = portal.logLines.find(({ msg }) => /Redis connection lost/.test(String(msg)))
  t.match(told, { err: { message: /WRONGPASS|NOAUTH/ } })
  t.notOk(portal.logText.includes(password))
})
