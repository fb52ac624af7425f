import { t as tap, test } from 'tap'
import { buildClient } from '../.ci/build-client.js'
import { EmbedHost } from './support/embed-host.js'
import { Firefox, firefoxPath } from './support/firefox.js'
import { ANA, CLEO, releaseRedisAfter } from './support/portal.js'
import { until } from './support/until.js'

const IN_FIREFOX = firefoxPath() === undefined ? { skip: 'there is no firefox on this machine' } : {}

releaseRedisAfter(tap)
buildClient()

let firefox: Promise<Firefox> | undefined
function openFirefox (): Promise<Firefox> {
  firefox ??= Firefox.open(tap)
  return firefox
}

test('Firefox: an app opens, and is renewed before its end without a gap', { ...IN_FIREFOX }, async (t) => {
  const firefox = await openFirefox()
  const host = await EmbedHost.open(t, { options: { patExpiry: 12, minRemaining: 4 } })
  const visit = await firefox.visit(host)
  await visit.sees('renewed')
  t.match(await visit.types(), /^loading ready (beforerenew )+renewed$/)
  t.equal(await visit.user(), ANA)
  t.match(await visit.look(), { state: 'ready', frames: [{ inert: false }] })
  t.equal(host.toolJet.mints.length, 2)
  t.notOk(host.toolJet.pageCalls.some(({ headers }) => headers.referer !== undefined), 'no page of ToolJet hears where it is embedded')
  t.notOk((await visit.run<string[]>('performance.getEntries().map(({ name }) => name)')).some((name) => name.includes('pat_')), 'no PAT in resource timing')
})

for (const access of ['mint', 'session'] as const) {
  test(`Firefox: a user without access, judged at the ${access}, hears so after one mint`, { ...IN_FIREFOX }, async (t) => {
    const firefox = await openFirefox()
    const host = await EmbedHost.open(t, { toolJet: { access } })
    const visit = await firefox.visit(host, undefined, CLEO)
    t.match(await visit.isIn('fatal'), { message: /no access/, frames: [] })
    t.match((await visit.seen('fatal'))[0]!.detail, { code: 'TOOLJET_EMBED_ACCESS_DENIED', status: 403 })
    t.equal(host.toolJet.calls.length, 1)
  })
}

test('Firefox: who signs out of the app stays so until the button', { ...IN_FIREFOX }, async (t) => {
  const firefox = await openFirefox()
  const host = await EmbedHost.open(t)
  const visit = await firefox.visit(host)
  await visit.sees('ready')
  await visit.user()
  await visit.inApp("document.querySelector('#logout').click()")
  t.match(await visit.isIn('signed-out'), { frames: [] })
  t.match((await visit.seen('expired'))[0]!.detail, { reason: 'logout' })
  await visit.run("el.shadowRoot.querySelector('[part=retry]').click()")
  await visit.sees('ready', 2)
  await until('the user is back', async () => await visit.user() === ANA)
})
