import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { WebSocket } from 'undici'
import type { Page } from 'playwright-core'
import type { Test } from 'tap'
import { executable } from './browser.js'
import { EmbedVisit, NOTE_EVENTS, type EmbedHost } from './embed-host.js'
import { ANA } from './portal.js'
import { until } from './until.js'

export const firefoxPath = (): string | undefined => executable('firefox-esr') ?? executable('firefox')

interface Context {
  context: string
  url: string
  children: Context[]
}

interface Answer {
  id?: number
  result?: unknown
  error?: string
  message?: string
}

interface Frame {
  url: string
  evaluate: (code: string) => Promise<unknown>
}

/** This machine's Firefox by WebDriver BiDi: playwright-core's own way asks it for commands that it does not have. */
export class Firefox {
  readonly #socket: WebSocket
  readonly #answers = new Map<number, (answer: Answer) => void>()
  #lastId = 0

  private constructor (socket: WebSocket) {
    this.#socket = socket
    socket.addEventListener('message', ({ data }) => {
      const answer = JSON.parse(String(data)) as Answer
      this.#answers.get(answer.id ?? 0)?.(answer)
    })
  }

  static async open (t: Pick<Test, 'teardown'>): Promise<Firefox> {
    const profile = await mkdtemp(join(tmpdir(), 'firefox-'))
    const child = spawn(firefoxPath()!, ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port=0'], {
      env: { ...process.env, MOZ_CRASHREPORTER_DISABLE: '1', HOME: profile },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const ended = new Promise((resolve) => child.once('close', resolve))
    t.teardown(async () => {
      child.kill()
      await ended
      await rm(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
    })
    for await (const line of createInterface(child.stderr)) {
      const address = /WebDriver BiDi listening on (ws:\S+)/.exec(line)?.[1]
      if (address === undefined) continue
      child.stderr.resume()
      const socket = new WebSocket(`${address}/session`)
      await new Promise((resolve, reject) => {
        socket.addEventListener('open', resolve, { once: true })
        socket.addEventListener('error', reject, { once: true })
      })
      const firefox = new Firefox(socket)
      await firefox.#send('session.new', { capabilities: {} })
      return firefox
    }
    throw new Error('firefox has ended')
  }

  /** As `EmbedHost.visit`: a page of a visitor with cookies of one's own. */
  async visit (host: EmbedHost, html = '<tooljet-embed app="sales"></tooljet-embed>', email = ANA): Promise<FirefoxVisit> {
    const { userContext } = await this.#send<{ userContext: string }>('browser.createUserContext')
    const { context } = await this.#send<{ context: string }>('browsingContext.create', { type: 'tab', userContext })
    await this.#send('storage.setCookie', {
      cookie: { name: 'user', value: { type: 'string', value: email }, domain: new URL(host.url).hostname, path: '/' },
      partition: { type: 'storageKey', userContext },
    })
    await this.#send('script.addPreloadScript', { functionDeclaration: `() => { ${NOTE_EVENTS} }`, userContexts: [userContext] })
    await this.#send('browsingContext.navigate', { context, url: `${host.url}/page`, wait: 'complete' })
    const visit = new FirefoxVisit((code) => this.#evaluate(context, code), () => this.#frames(context))
    await visit.put(html)
    return visit
  }

  async #frames (context: string): Promise<Frame[]> {
    const { contexts } = await this.#send<{ contexts: Context[] }>('browsingContext.getTree', { root: context })
    return contexts[0]!.children.map(({ context, url }) => ({ url, evaluate: (code) => this.#evaluate(context, code) }))
  }

  async #evaluate (context: string, code: string): Promise<unknown> {
    const { result, exceptionDetails } = await this.#send<{ result?: { value?: string }, exceptionDetails?: { text: string } }>('script.evaluate', {
      expression: `(async () => JSON.stringify(await (${code})))()`, target: { context }, awaitPromise: true,
    })
    if (exceptionDetails !== undefined) throw new Error(exceptionDetails.text)
    return result?.value === undefined ? undefined : JSON.parse(result.value)
  }

  #send<T> (method: string, params: object = {}): Promise<T> {
    const id = ++this.#lastId
    return new Promise<T>((resolve, reject) => {
      this.#answers.set(id, ({ result, error, message }) => {
        this.#answers.delete(id)
        if (error === undefined) resolve(result as T)
        else reject(new Error(`${method}: ${error} ${message}`))
      })
      this.#socket.send(JSON.stringify({ id, method, params }))
    })
  }
}

/** What a test does with a page it does here, too; of Playwright's page there is only `evaluate`. */
class FirefoxVisit extends EmbedVisit {
  readonly #frames: () => Promise<Frame[]>

  constructor (evaluate: (code: string) => Promise<unknown>, frames: () => Promise<Frame[]>) {
    super({ page: { evaluate } as unknown as Page, complaints: [], asks: [] })
    this.#frames = frames
  }

  override async user (): Promise<string | null> {
    return until('the app says who is signed in', async () => await this.inApp("document.querySelector('#user')?.textContent").catch(() => '') as string | undefined)
  }

  /** @param code of the app's own page */
  async inApp (code: string): Promise<unknown> {
    return (await this.#frames()).findLast(({ url }) => url.includes('/applications/'))?.evaluate(code)
  }
}
