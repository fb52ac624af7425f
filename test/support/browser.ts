import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { chromium, type Browser, type Page } from 'playwright-core'
import type { Test } from 'tap'
import type { Reply } from './portal.js'

const ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
/** For all that a page is waited for. */
/** A page that is not as it should be by then will never be. */
export const PAGE_MS = 60_000

/** This machine's own browser: none is downloaded for the tests. */
export const chromiumPath = (): string | undefined => executable('chromium')

export function executable (name: string): string | undefined {
  const folders = ['/usr/bin', ...(process.env['PATH'] ?? '').split(delimiter)]
  return folders.map((folder) => join(folder, name)).find((path) => {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

let browser: Promise<Browser> | undefined

/** To be called once by each file that opens pages: all of them are of one browser. */
export function closeBrowserAfter (t: Pick<Test, 'teardown'>): void {
  t.teardown(async () => { await (await browser)?.close() })
}

/** What a page asked of the plugin's route, and what it got. */
interface Ask {
  sent: Record<string, unknown>
  status: number
  reply: Reply['body']
}

/** A page of a visitor of one's own, with cookies of one's own. */
export interface Visit {
  page: Page
  /** What the page and its frames log as an error, do not catch, or try against the content security policy. */
  complaints: string[]
  asks: Ask[]
}

/** @param own another browser than the one that all pages share */
export async function visit (t: Test, baseURL: string, own?: Browser): Promise<Visit> {
  browser ??= chromium.launch({ executablePath: chromiumPath()!, args: ARGS })
  const context = await (own ?? await browser).newContext({ baseURL })
  t.teardown(() => context.close())
  context.setDefaultTimeout(PAGE_MS)

  const complaints: string[] = []
  const asks: Ask[] = []
  await context.exposeFunction('complain', (text: string) => { complaints.push(text) })
  await context.addInitScript("addEventListener('securitypolicyviolation', (event) => complain('csp: ' + event.violatedDirective + ' ' + event.blockedURI))")
  const page = await context.newPage()
  page.on('console', (line) => { if (line.type() === 'error') complaints.push(`error: ${line.text()}`) })
  page.on('pageerror', (error) => { complaints.push(`uncaught: ${error.message}`) })
  page.on('response', async (response) => {
    if (new URL(response.url()).pathname !== '/api/get-tooljet-url') return
    const reply = await response.json().catch(() => ({})) as Ask['reply'] // the page may be gone by now
    asks.push({ sent: response.request().postDataJSON() as Ask['sent'], status: response.status(), reply })
  })
  return { page, complaints, asks }
}
