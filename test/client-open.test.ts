import { t as tap, test, type Test } from 'tap'
import { buildClient } from '../.ci/build-client.js'
import { chromiumPath, closeBrowserAfter } from './support/browser.js'
import { EmbedHost } from './support/embed-host.js'
import { ANA, releaseRedisAfter } from './support/portal.js'

const IN_A_BROWSER = chromiumPath() === undefined ? { skip: 'there is no chromium on this machine' } : {}
const PERIODS = 20

releaseRedisAfter(tap)
closeBrowserAfter(tap)
buildClient()

/** @param waitS the element's `timeout`: a frame with one `load` shows so long after it */
async function leftOpen (t: Test, { lateLoadMs, patExpiry, minRemaining, waitS }: Record<'lateLoadMs' | 'patExpiry' | 'minRemaining' | 'waitS', number>): Promise<void> {
  const host = await EmbedHost.open(t, { options: { patExpiry, minRemaining }, toolJet: { lateLoadMs } })
  const visit = await host.visit(t, `<tooljet-embed app="sales" timeout="${waitS}"></tooljet-embed>`)
  const navigated: string[] = []
  visit.page.on('framenavigated', (frame) => { navigated.push(new URL(frame.url()).pathname) })
  await visit.sees('ready')
  const mintsBefore = host.toolJet.mints.length
  await visit.run(`(() => {
    window.empty = window.pictures = 0
    const watch = () => {
      pictures++
      const frames = [...el.shadowRoot.querySelectorAll('iframe')].filter(({ inert }) => !inert)
      if (el.getAttribute('state') !== 'ready' || frames.length !== 1) empty++
      requestAnimationFrame(watch)
    }
    watch()
  })()`)
  await visit.sees('renewed', PERIODS, (PERIODS + 3) * patExpiry * 1000)

  const events = await visit.seen()
  const renewed = events.filter(({ type }) => type === 'renewed').length
  t.same(events.filter(({ type }) => !['beforerenew', 'loading', 'ready', 'renewed'].includes(type)), [], 'nothing else happens')
  t.equal(await visit.run('empty'), 0)
  t.ok(await visit.run<number>('pictures') > 100)
  t.notOk(navigated.some((path) => path.includes('login')))
  const mints = host.toolJet.mints.length - mintsBefore
  t.ok(mints >= renewed && mints - renewed <= 1, 'one mint for each renewal, and maybe one that is under way')
  t.comment(`${mints} mints, ${renewed} renewals, ${visit.asks.length} asks, ${await visit.run('pictures')} pictures`)
  t.equal(await visit.user(), ANA)
  t.equal((await visit.look()).frames.length, 1)
  t.same(visit.violations, [])
}

test(`left open for ${PERIODS} lives of a PAT, late loads included: no error, no login page, no empty frame, one mint for each`, { ...IN_A_BROWSER }, async (t) => {
  await Promise.all([
    leftOpen(t, { lateLoadMs: 0, patExpiry: 6, minRemaining: 2, waitS: 30 }),
    leftOpen(t, { lateLoadMs: 2500, patExpiry: 8, minRemaining: 4, waitS: 3 }),
  ])
})
