import { t as tap, test } from 'tap'
import { startServer } from '../example/redis.js'
import { AS_REDIS_6, CODES, countByHand, halfHour, OMAR, openAuditedPortal, writeLog } from './support/audit-portal.js'
import { chromiumPath, closeBrowserAfter, visit } from './support/browser.js'
import { ANA, BEN, CLEO, releaseRedisAfter } from './support/portal.js'
import { until } from './support/until.js'

const HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
const IN_A_BROWSER = chromiumPath() === undefined ? { skip: 'there is no chromium on this machine' } : {}

releaseRedisAfter(tap)
closeBrowserAfter(tap)

async function signIn (page: Awaited<ReturnType<typeof visit>>['page'], email: string): Promise<void> {
  await page.goto('/sign-in')
  await page.locator(`button[value="${email}"]`).click()
  await page.waitForURL((url) => url.pathname === '/')
}

test('in a browser: live events, plots, filters and pages', { ...IN_A_BROWSER }, async (t) => {
  const portal = await openAuditedPortal(t)
  await writeLog(portal, halfHour(Date.now()))
  const { page, complaints } = await visit(t, portal.url)
  await signIn(page, OMAR)
  await page.getByRole('link', { name: 'Audit log' }).click()
  await page.locator('#live[data-state="live"]').waitFor()
  const rows = page.locator('tr.event')
  await until('the first page and the portal\'s own ask', async () => await rows.count() >= 50)

  await portal.ask(ANA, { app: 'sales' }, HOSTILE)
  const hostile = rows.filter({ hasText: '<img src=x' })
  await hostile.waitFor()
  t.match(await hostile.locator('.from').textContent(), HOSTILE, 'a user agent is text')
  t.equal(await page.locator('tr img, tr script').count(), 0)
  await hostile.getByRole('button', { name: /^All fields of the event at / }).press('Enter')
  t.match(await page.locator('tr.details').textContent(), HOSTILE)
  t.equal(await page.title(), 'Audit log · Acme Portal')
  await hostile.getByRole('button').press('Enter')
  t.equal(await page.locator('tr.details').count(), 0)

  for (const event of ['url.reused', 'url.denied', 'url.limited', 'url.failed']) {
    await portal.redis.xadd(portal.stream, '*', 'time', new Date().toISOString(), 'event', event, ...(event === 'url.reused' ? [] : ['code', CODES[1]!]))
  }
  // the oldest minute may leave the plot meanwhile: by what the page has, not by the clock
  const shown = await until('the plots show all', async () => {
    await page.evaluate("document.querySelector('details').open = true")
    const minutes = await page.locator('#minute-rows tr').evaluateAll((rows) => rows.map((row: any) => [...row.children].map((cell: any) => cell.textContent))) as string[][]
    const entries = await portal.log()
    const expected = countByHand(entries)
    const byClock = new Map(minutes.map(([time, ...counts]) => [time, counts.map(Number)]))
    const newest = Math.max(...Object.keys(expected).map((key) => Number(key.split(' ')[0])))
    if (!byClock.has(new Date(newest).toISOString().slice(11, 16))) return undefined
    const wanted = [...byClock.keys()].map((time) => {
      const minute = Object.keys(expected).map((key) => Number(key.split(' ')[0])).find((at) => new Date(at).toISOString().slice(11, 16) === time)
      return [time, ...['minted', 'reused', 'refused'].map((source) => expected[`${minute} ${source}`] ?? 0)]
    })
    const isSame = JSON.stringify(wanted) === JSON.stringify([...byClock].map(([time, counts]) => [time, ...counts]))
    return isSame ? { byClock, sums: await page.locator('.legend strong').allTextContents(), entries } : undefined
  })
  t.ok(shown.byClock.size >= 29)
  const sums = [0, 1, 2].map((i) => [...shown.byClock.values()].reduce((sum, counts) => sum + counts[i]!, 0))
  t.same(shown.sums.map(Number), sums)
  t.match(await page.locator('#per-minute').getAttribute('aria-label'), `${sums[0]} minted, ${sums[1]} reused, ${sums[2]} refused`)
  const codes = await page.locator('#codes').getAttribute('aria-label') ?? ''
  const byCode = Array.from(codes.matchAll(/[A-Z_]+ (\d+)/g), ([, count]) => Number(count))
  t.equal(byCode.length, 3, codes)
  t.equal(byCode.reduce((a, b) => a + b), sums[2], 'as many refusals as in the other plot')

  const before = await rows.count()
  await page.getByRole('button', { name: 'Older' }).click()
  await until('older ones', async () => await rows.count() === before + 50)
  const times = await rows.locator('time').evaluateAll((times) => times.map((time: any) => time.dateTime)) as string[]
  t.same(times, [...times].sort().reverse(), 'newest first')

  await page.getByLabel('E-mail').fill(CLEO)
  await page.getByRole('button', { name: 'Filter' }).press('Enter')
  await page.getByText('No event matches.').waitFor()
  await portal.ask(CLEO, { app: 'sales' })
  await portal.ask(BEN, { app: 'sales' })
  await portal.ask(CLEO, { app: 'inventory' })
  await until('only hers come', async () => await rows.count() === 2)
  t.same(await rows.locator('.email').allTextContents(), [CLEO, CLEO])
  t.match(page.url(), /\/admin\/audit\?email=cleo%40acme\.test$/)
  t.match(await page.locator('#command').textContent(), `FCALL_RO tooljet_audit 1 ${portal.stream} email cleo@acme.test limit 50`)

  await page.getByRole('button', { name: 'Pause' }).click()
  await portal.ask(CLEO, { app: 'inventory' })
  await page.getByText('2 shown, 1 new').waitFor()
  t.equal(await rows.count(), 2)
  await page.getByRole('button', { name: 'Resume' }).click()
  await until('it is there', async () => await rows.count() === 3)

  await page.getByLabel('Outcome').selectOption('failure')
  await until('one was refused', async () => await rows.count() === 1)
  await page.goBack()
  await until('"back" shows what was there', async () => await rows.count() === 3)
  t.same(complaints, [], 'neither the console nor the content security policy has anything to say')

  await page.getByLabel('Since').fill('yesterday')
  await page.getByRole('button', { name: 'Filter' }).click()
  await page.getByRole('alert').getByText('argument "since" is "yesterday"').waitFor()
  t.equal(await rows.count(), 0)
  await page.getByRole('button', { name: 'Clear' }).click()
  await until('all of them again', async () => await rows.count() >= 50)
  t.notOk(await page.getByRole('alert').isVisible())
})

test('in a browser: small and large, without a mouse, and not for others', { ...IN_A_BROWSER }, async (t) => {
  const portal = await openAuditedPortal(t)
  await portal.ask(ANA, { app: 'x'.repeat(36) }, HOSTILE.repeat(3))
  const { page, complaints } = await visit(t, portal.url)
  await signIn(page, OMAR)
  for (const [width, colorScheme] of [[390, 'dark'], [1280, 'light']] as const) {
    await page.setViewportSize({ width, height: 800 })
    await page.emulateMedia({ colorScheme })
    await page.goto('/admin/audit')
    await page.locator('#live[data-state="live"]').waitFor()
    await page.locator('tr.event').first().waitFor()
    t.equal(await page.evaluate('document.documentElement.scrollWidth'), width, 'nothing sticks out')
    const unnamed = await page.locator('button, input, select, a, [role=img]').evaluateAll((all) => all.filter((one: any) => (
      !(one.ariaLabel || one.getAttribute('aria-label') || one.labels?.length || one.textContent.trim()))).length)
    t.equal(unnamed, 0, 'everything has a name')
    const reached = new Set<string>()
    await page.locator('.brand').focus()
    for (let i = 0; i < 16; i++) {
      await page.keyboard.press('Tab')
      reached.add(String(await page.evaluate('document.activeElement.name || document.activeElement.id || document.activeElement.textContent.trim() || document.activeElement.className')))
    }
    for (const name of ['Sign out', 'email', 'app', 'event', 'outcome', 'code', 'since', 'until', 'Filter', 'Clear', 'pause']) t.ok(reached.has(name), `Tab reaches ${name}`)
  }
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.waitForURL('**/sign-in')
  t.same(complaints, [])

  await signIn(page, ANA)
  await page.locator('#email', { hasText: ANA }).waitFor({ state: 'attached' })
  t.notOk(await page.getByRole('link', { name: 'Audit log' }).isVisible())
  await page.goto('/admin/audit')
  await page.getByRole('heading', { name: 'The audit log is not for you to see' }).waitFor()
  await page.getByRole('link', { name: 'Back to the apps' }).click()
  await page.waitForURL(`${portal.url}/`)
})

test('in a browser: a Redis without the functions', { ...IN_A_BROWSER }, async (t) => {
  const old = await openAuditedPortal(t, { server: await startServer({ args: AS_REDIS_6 }) })
  const { page, complaints } = await visit(t, old.url)
  await signIn(page, OMAR)
  await page.goto('/admin/audit')
  await page.locator('#notice').getByText('older than 7').waitFor()
  await page.locator('#live[data-state="live"]').waitFor()
  await old.ask(BEN, { app: 'inventory' })
  await page.locator('tr.event', { hasText: BEN }).waitFor()
  t.same(complaints.filter((text) => !text.includes('501')), [])
})
