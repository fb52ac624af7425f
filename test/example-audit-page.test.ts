import { t as tap, test, type Test } from 'tap'
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

/** The page of a log of half an hour, as its admin sees it. */
async function openAuditPage (t: Test) {
  const portal = await openAuditedPortal(t)
  await writeLog(portal, halfHour(Date.now()))
  const { page, complaints } = await visit(t, portal.url)
  await signIn(page, OMAR)
  await page.getByRole('link', { name: 'Audit log' }).click()
  await page.locator('#live[data-state="live"]').waitFor()
  const rows = page.locator('tr.event')
  await until('the first page and the portal\'s own ask', async () => await rows.count() >= 50)
  return { portal, page, rows, complaints }
}

const NO_COMPLAINT = 'neither the console nor the content security policy has anything to say'

test('in a browser: a live event is shown as text, whatever its user agent is', { ...IN_A_BROWSER }, async (t) => {
  const { portal, page, rows, complaints } = await openAuditPage(t)
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
  t.same(complaints, [], NO_COMPLAINT)
})

/** What the plot of minutes shows, once it agrees with the log. */
async function plotOf ({ portal, page }: Pick<Awaited<ReturnType<typeof openAuditPage>>, 'portal' | 'page'>) {
  // the oldest minute may leave the plot meanwhile: by what the page has, not by the clock
  return until('the plots show all', async () => {
    await page.evaluate("document.querySelector('details').open = true")
    const minutes = await page.locator('#minute-rows tr').evaluateAll((rows) => rows.map((row: any) => [row.querySelector('time').dateTime.slice(11, 16), ...[...row.querySelectorAll('td')].map((cell: any) => cell.textContent)])) as string[][]
    const expected = countByHand(await portal.log())
    const byClock = new Map(minutes.map(([time, ...counts]) => [time, counts.map(Number)]))
    const newest = Math.max(...Object.keys(expected).map((key) => Number(key.split(' ')[0])))
    if (!byClock.has(new Date(newest).toISOString().slice(11, 16))) return undefined
    const wanted = [...byClock.keys()].map((time) => {
      const minute = Object.keys(expected).map((key) => Number(key.split(' ')[0])).find((at) => new Date(at).toISOString().slice(11, 16) === time)
      return [time, ...['minted', 'reused', 'refused'].map((source) => expected[`${minute} ${source}`] ?? 0)]
    })
    const isSame = JSON.stringify(wanted) === JSON.stringify([...byClock].map(([time, counts]) => [time, ...counts]))
    return isSame ? { byClock, legend: await page.locator('.legend strong').allTextContents() } : undefined
  })
}

test('in a browser: the plots count live events as the log has them', { ...IN_A_BROWSER }, async (t) => {
  const { portal, page, complaints } = await openAuditPage(t)
  for (const event of ['url.reused', 'url.denied', 'url.limited', 'url.failed']) {
    await portal.redis.xadd(portal.stream, '*', 'time', new Date().toISOString(), 'event', event, ...(event === 'url.reused' ? [] : ['code', CODES[1]!]))
  }
  const { byClock, legend } = await plotOf({ portal, page })
  t.ok(byClock.size >= 29)
  const sums = [0, 1, 2].map((i) => [...byClock.values()].reduce((sum, counts) => sum + counts[i]!, 0))
  t.same(legend.map(Number), sums)
  t.match(await page.locator('#per-minute').getAttribute('aria-label'), `${sums[0]} minted, ${sums[1]} reused, ${sums[2]} refused`)
  const codes = await page.locator('#codes').getAttribute('aria-label') ?? ''
  const byCode = Array.from(codes.matchAll(/[A-Z_]+ (\d+)/g), ([, count]) => Number(count))
  t.equal(byCode.length, 3, codes)
  t.equal(byCode.reduce((a, b) => a + b), sums[2], 'as many refusals as in the other plot')
  t.same(complaints, [], NO_COMPLAINT)
})

test('in a browser: older events follow, newest first', { ...IN_A_BROWSER }, async (t) => {
  const { page, rows, complaints } = await openAuditPage(t)
  const before = await rows.count()
  await page.getByRole('button', { name: 'Older' }).click()
  await until('older ones', async () => await rows.count() === before + 50)
  const times = await rows.locator('time').evaluateAll((times) => times.map((time: any) => time.dateTime)) as string[]
  t.same(times, [...times].sort().reverse(), 'newest first')
  t.same(complaints, [], NO_COMPLAINT)
})

test('in a browser: a filter holds for live events too, "Pause" keeps them back, and "back" undoes a filter', { ...IN_A_BROWSER }, async (t) => {
  const { portal, page, rows, complaints } = await openAuditPage(t)
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
  t.same(complaints, [], NO_COMPLAINT)
})

test('in a browser: a wrong filter is named, and "Clear" shows all events again', { ...IN_A_BROWSER }, async (t) => {
  const { page, rows } = await openAuditPage(t)
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
    for (let i = 0; i < 22; i++) {
      await page.keyboard.press('Tab')
      reached.add(String(await page.evaluate("document.activeElement.name || document.activeElement.id || document.activeElement.getAttribute('href') || document.activeElement.querySelector('.account-name')?.textContent || document.activeElement.textContent.trim() || document.activeElement.className")))
    }
    for (const name of ['Omar Reyes', '/admin/audit', 'email', 'app', 'event', 'outcome', 'code', 'since', 'until', 'Filter', 'Clear', 'pause']) t.ok(reached.has(name), `Tab reaches ${name}`)
  }
  await page.getByRole('button', { name: 'Omar Reyes' }).click()
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

const CHROME = 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36'

test('in a browser: times are of the reader\'s zone, and of UTC on hover; a browser has a name', { ...IN_A_BROWSER }, async (t) => {
  const portal = await openAuditedPortal(t)
  const at = Date.parse('2026-03-28T20:01:02.345Z')
  await writeLog(portal, [{ ms: at, fields: { event: 'url.reused', email: ANA, user_agent: CHROME } }, { ms: at + 86_400_000, fields: { event: 'url.reused', email: ANA } }])
  const { page, complaints } = await visit(t, portal.url)
  const zone = await page.context().newCDPSession(page)
  await zone.send('Emulation.setTimezoneOverride', { timezoneId: 'Europe/Berlin' }) // where the clocks change between the two
  await signIn(page, OMAR)
  const note = page.locator('.note time')
  await note.waitFor()
  const end = Date.parse(await note.getAttribute('datetime') ?? '')
  t.equal(await note.textContent(), new Date(end).toLocaleTimeString('en-GB', { timeZone: 'Europe/Berlin', timeStyle: 'short' }))
  t.equal(await note.getAttribute('title'), `${new Date(end).toISOString().replace('T', ' ').slice(0, -1)} UTC`)

  await page.goto('/admin/audit?email=ana@acme.test')
  const rows = page.locator('tr.event')
  await rows.nth(1).waitFor()
  t.same(await page.locator('tr.event time').allTextContents(), ['2026-03-29 22:01:02.345', '2026-03-28 21:01:02.345'])
  const [summer, winter] = await page.locator('tr.event time').evaluateAll((times) => times.map((time: any) => [time.dateTime, time.title])) as [string[], string[]]
  t.same(summer, ['2026-03-29T20:01:02.345Z', '2026-03-29 20:01:02.345 UTC'])
  t.same(winter, ['2026-03-28T20:01:02.345Z', '2026-03-28 20:01:02.345 UTC'])
  t.match(await page.locator('.head').textContent(), 'Times are in your zone (Europe/Berlin)')
  t.equal(await rows.nth(1).locator('.agent').textContent(), 'Chrome 130 on Windows')
  t.equal(await rows.nth(1).locator('.agent').getAttribute('title'), CHROME)

  await page.getByLabel('Until').fill('2026-03-29 22:00') // of the reader's zone, too
  await page.getByRole('button', { name: 'Filter' }).click()
  await until('the older one is left', async () => await rows.count() === 1)
  t.match(await page.locator('#command').textContent(), 'until 2026-03-29T20:00:00.000Z')
  t.same(complaints, [])
})

test('user agents in words', async (t) => {
  const { nameOf } = await import(new URL('../example/portal/public/user-agent.js', import.meta.url).href) as { nameOf: (userAgent: string) => string }
  const cases = {
    [CHROME]: 'Chrome 130 on Windows',
    [`${CHROME} Edg/131.0.0.0`]: 'Edge 131 on Windows',
    [`${CHROME} OPR/114.0.0.0`]: 'Opera 114 on Windows',
    'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/156.0.0.0 Safari/537.36': 'Chrome 156 on Linux',
    'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0': 'Firefox 145 on Linux',
    'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15': 'Safari 18 on macOS',
    'Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1': 'Safari 17 on iPhone',
    'Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/130.0.1 Mobile/15E148 Safari/604.1': 'Chrome 130 on iPad',
    'Mozilla/5.0 (Linux; Android 14; SM-S911B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/26.0 Chrome/122.0.0.0 Mobile Safari/537.36': 'Samsung Internet 26 on Android',
    'Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36': 'Chrome 129 on ChromeOS',
  }
  for (const [userAgent, name] of Object.entries(cases)) t.equal(nameOf(userAgent), name)
  const others = ['', 'curl/8.5.0', 'Chrome/130 on Windows', HOSTILE, 'Mozilla/5.0 (X11)', `${CHROME} (compatible; Examplebot/1.0)`]
  for (const userAgent of others) t.equal(nameOf(userAgent), userAgent)
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
