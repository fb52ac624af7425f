import fastifyHelmet from '@fastify/helmet'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Browser, Frame, Page } from 'playwright-core'
import type { Test } from 'tap'
import tooljetEmbed, { type TooljetEmbedOptions, type TooljetTarget } from '../../plugin/index.js'
import { ToolJetStandIn, type ToolJetOptions } from '../../example/tooljet/server.js'
import { PAGE_MS, visit, type Visit } from './browser.js'
import { ANA, API_TOKEN, INVENTORY, newPrefix, SALES } from './portal.js'
import { newClient } from './redis-client.js'
import { keysOf, sharedRedisUrl } from './redis.js'
import { until } from './until.js'

/** An event of an element, as the page saw it. */
export interface Seen {
  type: string
  detail: Record<string, unknown>
  /** Milliseconds on the page's clock. */
  at: number
}

/** What there is to know of a page's elements, at one moment. */
export interface Look {
  state: string | null
  busy: string | null
  /** What a screen reader is told. */
  said: string
  message: string
  retry: string
  /** `id`: another for another frame. */
  frames: Array<Record<'name' | 'sandbox' | 'referrerPolicy' | 'title' | 'allow', string> & { id: number, inert: boolean }>
}

const PAGE = (moduleUrl: string): string => `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Host</title><script type="module" src="${moduleUrl}"></script></head>
<body><main id="main"></main></body></html>`

/** In the page before its own scripts. Events of the element do not bubble, but they are captured. */
export const NOTE_EVENTS = `
  window.seen = []
  window.onSeen = () => {}
  for (const type of ['loading', 'queued', 'ready', 'beforerenew', 'renewed', 'expired', 'error', 'fatal']) {
    document.addEventListener(type, (event) => {
      if (event.target.localName !== 'tooljet-embed') return
      seen.push({ type, detail: event.detail, at: performance.now() })
      window.onSeen(event)
    }, true)
  }
  const ids = new WeakMap()
  let lastId = 0
  const idOf = (frame) => {
    if (!ids.has(frame)) ids.set(frame, ++lastId)
    return ids.get(frame)
  }
  window.looks = () => [...document.querySelectorAll('tooljet-embed')].map((element) => {
    const root = element.shadowRoot
    const part = (name) => root.querySelector('[part=' + name + ']')
    return {
      state: element.getAttribute('state'),
      busy: part('base').getAttribute('aria-busy'),
      said: root.querySelector('[role=status]').textContent,
      message: part('message').textContent,
      retry: part('retry').hidden ? '' : part('retry').textContent,
      frames: [...root.querySelectorAll('iframe')].map((frame) => ({
        id: idOf(frame), name: frame.name, sandbox: frame.sandbox.value, referrerPolicy: frame.referrerPolicy, title: frame.title, allow: frame.allow, inert: frame.inert,
      })),
    }
  })`

/** A host with the plugin and an empty page, and a ToolJet of another site. */
export class EmbedHost {
  private constructor (readonly app: FastifyInstance, readonly toolJet: ToolJetStandIn, readonly url: string) {}

  /** @param csp directives in place of the usual ones; @param before adds to the app */
  static async open (t: Test, { options = {}, mintLimit, toolJet = {}, frameOrigins = [], csp = {}, before }: { options?: Partial<TooljetEmbedOptions>, mintLimit?: TooljetTarget['mintLimit'], toolJet?: Partial<ToolJetOptions>, frameOrigins?: string[], csp?: Record<string, string[]>, before?: (app: FastifyInstance) => void } = {}): Promise<EmbedHost> {
    const standIn = await new ToolJetStandIn({ apiToken: API_TOKEN, ...toolJet }).listen()
    const redis = await sharedRedisUrl()
    const keyPrefix = newPrefix()
    const app = Fastify({ forceCloseConnections: true })
    t.teardown(async () => {
      await app.close()
      await standIn.close()
      const client = newClient(redis)
      await Promise.all((await keysOf(client, keyPrefix)).map((key) => client.del(key)))
      client.disconnect()
    })
    app.register(fastifyHelmet, {
      contentSecurityPolicy: {
        useDefaults: false,
        directives: { 'default-src': ["'self'"], 'frame-src': [() => [...app.tooljetEmbed.origins, ...frameOrigins].join(' ')], 'require-trusted-types-for': ["'script'"], ...csp },
      },
      strictTransportSecurity: false,
    })
    before?.(app)
    app.register(tooljetEmbed, {
      tooljet: { url: standIn.url, apiToken: API_TOKEN, ...(mintLimit !== undefined && { mintLimit }) },
      redis,
      keyPrefix,
      apps: { sales: { appId: SALES.id }, inventory: { appId: INVENTORY.id } },
      rateLimit: false,
      authenticate: async ({ headers }) => {
        if (emailOf(headers.cookie) === undefined) throw Object.assign(new Error('nobody is signed in'), { statusCode: 401 })
      },
      identity: ({ headers }) => emailOf(headers.cookie) ?? '',
      ...options,
    })
    app.get('/page', (_request, reply) => reply.type('text/html').send(PAGE(app.tooljetEmbed.client!.url)))
    await app.listen({ port: 0, host: 'localhost' })
    return new EmbedHost(app, standIn, `http://localhost:${(app.server.address() as { port: number }).port}`)
  }

  /** @param html what is on the page */
  async visit (t: Test, html = '<tooljet-embed app="sales"></tooljet-embed>', { email = ANA, prepare, browser }: { email?: string, prepare?: (page: Page) => Promise<unknown>, browser?: Browser } = {}): Promise<EmbedVisit> {
    const visitor = await visit(t, this.url, browser)
    const context = visitor.page.context()
    await context.addCookies([{ name: 'user', value: email, url: this.url }])
    await context.addInitScript(NOTE_EVENTS)
    await prepare?.(visitor.page)
    await visitor.page.goto('/page')
    const embed = new EmbedVisit(visitor)
    await embed.put(html)
    return embed
  }
}

function emailOf (cookie = ''): string | undefined {
  return /(?:^|; )user=([^;]+)/.exec(cookie)?.[1]
}

/** A page with elements. */
export class EmbedVisit {
  readonly page: Page
  readonly complaints: string[]
  readonly asks: Visit['asks']

  constructor (visitor: Pick<Visit, 'page' | 'complaints' | 'asks'>) {
    this.page = visitor.page
    this.complaints = visitor.complaints
    this.asks = visitor.asks
  }

  /** Replaces what is on the page. */
  async put (html: string): Promise<void> {
    await this.run(`main.replaceChildren(...new DOMParser().parseFromString(trustedTypes.createPolicy('test-' + Math.random(), { createHTML: (html) => html }).createHTML(${JSON.stringify(html)}), 'text/html').body.childNodes)`)
  }

  /** @param code of the page; \`main\` is its main element, \`el\` the first embedded app */
  async run<T = unknown> (code: string): Promise<T> {
    return this.page.evaluate(`(async () => { const main = document.querySelector('#main'), el = document.querySelector('tooljet-embed'); return ${code} })()`)
  }

  /** As a browser has it for a tab in the background. */
  async setHidden (hidden: boolean): Promise<void> {
    await this.run(`(Object.defineProperty(document, 'hidden', { value: ${hidden}, configurable: true }), document.dispatchEvent(new Event('visibilitychange', { bubbles: true })))`)
  }

  async looks (): Promise<Look[]> {
    return this.page.evaluate('looks()')
  }

  async look (): Promise<Look> {
    return (await this.looks())[0]!
  }

  async seen (type?: string): Promise<Seen[]> {
    const seen = await this.page.evaluate('seen') as Seen[]
    return type === undefined ? seen : seen.filter((event) => event.type === type)
  }

  async types (): Promise<string> {
    return (await this.seen()).map(({ type }) => type).join(' ')
  }

  async sees (type: string, count = 1, withinMs = PAGE_MS): Promise<Seen> {
    return until(`${type} is seen ${count} times`, async () => (await this.seen(type))[count - 1], withinMs)
  }

  /** For what is not to happen: time on the page's clock. */
  async passes (ms: number): Promise<void> {
    await this.run(`new Promise((resolve) => setTimeout(resolve, ${ms}))`)
  }

  async isIn (state: string): Promise<Look> {
    return until(`the state is ${state}`, async () => {
      const look = await this.look()
      return look?.state === state ? look : undefined
    }, PAGE_MS)
  }

  /** The frame of the app that shows. */
  async frame (): Promise<Frame> {
    return until('there is a frame with an app', () => this.page.frames().findLast((frame) => frame.url().includes('/applications/')))
  }

  /** Who is signed in to ToolJet, by what the app in the frame says. */
  async user (): Promise<string | null> {
    return until('the app says who is signed in', async () => {
      const user = (await this.frame()).locator('#user')
      return user.textContent({ timeout: 1000 }).catch(() => '') // the frame may be one that is just going
    })
  }

  /** What the content security policy was against. */
  get violations (): string[] {
    return this.complaints.filter((complaint) => complaint.startsWith('csp:') || complaint.startsWith('uncaught:'))
  }
}
