import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { t as tap, test } from 'tap'
import { buildClient } from '../.ci/build-client.js'
import { OMAR, openAuditedPortal, writeLog } from './support/audit-portal.js'
import { chromiumPath, closeBrowserAfter, visit } from './support/browser.js'
import { ANA, BEN, CLEO, releaseRedisAfter } from './support/portal.js'

/*
 * The pictures of the README. `npm run pictures` puts them into docs/images; as a test it only looks whether they can be taken.
 */

const IN_A_BROWSER = chromiumPath() === undefined ? { skip: 'there is no chromium on this machine' } : {}
const SIZE = { width: 1280, height: 800 }
const MAX_BYTES = 150_000
const [FOLDER] = process.argv.slice(2)

const BROWSER = 'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0'

releaseRedisAfter(tap)
closeBrowserAfter(tap)
buildClient() // the portal serves it

/** Half an hour of a portal with a few users; the same whenever it is made. */
function halfHour (now: number) {
  const kinds = ['url.minted', 'url.reused', 'url.reused', 'url.reused', 'url.reused', 'url.denied', 'url.reused', 'url.limited'] as const
  const codes: Record<string, string> = { 'url.denied': 'TOOLJET_EMBED_ACCESS_DENIED', 'url.limited': 'TOOLJET_EMBED_BUSY' }
  const users = [ANA, BEN, CLEO, 'omar@acme.test']
  return Array.from({ length: 420 }, (_, i) => {
    const at = Math.floor(now - 29 * 60_000 * (1 - i / 420) ** 1.2)
    const event = i % 37 < 4 || i % 8 === 1 ? kinds[i % kinds.length]! : 'url.reused'
    const code = codes[event]
    const user = (i * 7) % users.length
    return {
      ms: at,
      fields: {
        event,
        outcome: code === undefined ? 'success' : 'failure',
        ...(code !== undefined && { code }),
        email: users[user]!,
        app: i % 3 === 0 ? 'inventory' : 'sales',
        ip: `192.0.2.${17 + user}`,
        user_agent: BROWSER,
        duration_ms: String(event === 'url.minted' ? 180 + i % 90 : 1 + i % 4),
        instance: 'portal-1',
        seq: String(i + 1),
      },
    }
  })
}

test('the pictures of the README', IN_A_BROWSER, async (t) => {
  const portal = await openAuditedPortal(t)
  await writeLog(portal, halfHour(Date.now()))
  const { page, complaints } = await visit(t, portal.url)
  await page.setViewportSize(SIZE)

  const folder = FOLDER ?? t.testdir({})
  const picture = async (page: Page, name: string): Promise<void> => {
    const path = join(folder, `${name}.png`)
    await page.screenshot({ path, animations: 'disabled' })
    for (const file of [path, new URL(`../docs/images/${name}.png`, import.meta.url)]) {
      const png = readFileSync(file)
      t.same([png.readUInt32BE(16), png.readUInt32BE(20)], [SIZE.width, SIZE.height], `${name}: its size`)
      t.ok(png.length < MAX_BYTES, `${name}: ${png.length} bytes`)
    }
  }

  await page.goto('/sign-in')
  await page.locator(`button[value="${OMAR}"]`).click()
  await page.locator('tooljet-embed[state="ready"]').waitFor()
  await page.frameLocator('tooljet-embed iframe').locator('tbody tr').first().waitFor()
  await picture(page, 'portal')

  await page.getByRole('link', { name: 'Audit log' }).click()
  await page.locator('#live[data-state="live"]').waitFor()
  await page.locator('tr.event').nth(40).waitFor()
  await picture(page, 'audit')
  t.same(complaints, [])
})
