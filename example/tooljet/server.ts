import { createHmac, randomBytes } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { appPage, embedPage, errorPage, loginPage, type PageSettings } from './pages.js'
import { DEFAULT_SEED, type Seed } from './seed.js'
import { Tokens, type Token, type TokenMode } from './tokens.js'

export interface ToolJetOptions {
  /** 0: any free port. @default 0 */
  port?: number
  /** @default '127.0.0.1' */
  host?: string
  /** Where browsers find it, when that is not where it listens. @default its own address */
  publicUrl?: string
  apiToken: string
  /** @default 'insert' */
  tokens?: TokenMode
  /** Unit of `patExpiry`. @default 'seconds' */
  patUnit?: 'seconds' | 'minutes'
  /** In any minute, whenever it begins; 0: any number. @default 0 */
  mintsPerMinute?: number
  /** What that limit counts: each call that it lets through, or only those that minted. @default 'mints' */
  limitCounts?: 'calls' | 'mints'
  /** Whether the 429 of that limit says when to come back. @default true */
  retryAfter?: boolean
  /** What stands for a minute, ms. @default 60000 */
  minuteMs?: number
  /** Who says that a user may not open an app: the mint, or only the session call of the URL that it gave. @default 'mint' */
  access?: 'mint' | 'session'
  /** How e-mails are compared with those of users. @default 'exact' */
  emailCase?: 'exact' | 'lower'
  /** @default 'typed' */
  messages?: PageSettings['messages']
  /** @default 0 */
  lateLoadMs?: number
  /** @default 0 */
  appLoadMs?: number
  seed?: Seed
}

/** One call of the mint endpoint, as it arrived. */
export interface MintCall {
  at: number
  authorization: string | undefined
  headers: IncomingHttpHeaders
  body: Record<string, unknown>
  /** When its answer had been made; `undefined` while it is under way. */
  endedAt?: number
  /** The limit did not refuse it. */
  isLetThrough?: boolean
  /** The token, when one was minted. */
  token?: string
}

/** One call of the session endpoint, as it arrived. */
export interface SessionCall {
  at: number
  headers: IncomingHttpHeaders
  body: Record<string, unknown>
}

/** A browser's request for a page. */
export interface PageCall {
  at: number
  /** Path and query. */
  url: string
  headers: IncomingHttpHeaders
}

/** How a call goes wrong: what is given happens in this order, `undefined` leaves it alone. */
export interface Fault {
  delayMs?: number
  /** Destroys the connection: before any byte of the answer, or in its middle. */
  cut?: 'before' | 'middle'
  /** Never answers. */
  hang?: boolean
  /** Answers with this, and mints nothing. */
  reply?: { status: number, body?: unknown, headers?: Record<string, string> }
}

/** Decides over each call of an endpoint. */
export type Faults = (call: { path: 'mint' | 'session', body: Record<string, unknown> }) => Fault | undefined

/** How ToolJet says no. */
export interface ErrorBody {
  statusCode: number
  timestamp: string
  path: string
  message: string | string[]
}

const MINT_PATH = '/api/ext/users/personal-access-token'
const SESSION_PATH = '/api/ext/users/session'
const WORKSPACE = 'acme'

/** What ToolJet sends with everything. */
const HEADERS = {
  'content-security-policy': 'frame-ancestors *',
  'referrer-policy': 'no-referrer',
  'permissions-policy': 'geolocation=(self), camera=(self), microphone=(self)',
}

export function errorBody (statusCode: number, message: string | string[], path = MINT_PATH): ErrorBody {
  return { statusCode, timestamp: new Date().toISOString(), path, message }
}

type SeedApp = Seed['apps'][number]

class Refused extends Error {
  constructor (readonly statusCode: number, readonly reply: { message: string | string[] }, readonly headers: Record<string, string> = {}) {
    super(String(reply.message))
  }
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/**
 * A stand-in for a licensed ToolJet server: minting, sessions, and the pages that an iframe shows, as far as the plugin
 * and its pages can tell the difference.
 */
export class ToolJetStandIn {
  readonly calls: MintCall[] = []
  readonly sessionCalls: SessionCall[] = []
  readonly pageCalls: PageCall[] = []
  readonly tokens: Tokens
  /** Set by tests. */
  faults: Faults | undefined
  readonly #options: Required<Omit<ToolJetOptions, 'publicUrl'>> & Pick<ToolJetOptions, 'publicUrl'>
  readonly #sessions = new Map<string, { token: Token, endsAt: number }>()
  readonly #jwtSecret = randomBytes(32)
  readonly #hanging = new Set<() => void>()
  readonly #app: FastifyInstance

  constructor (options: ToolJetOptions) {
    this.#options = {
      port: 0,
      host: '127.0.0.1',
      tokens: 'insert',
      patUnit: 'seconds',
      mintsPerMinute: 0,
      limitCounts: 'mints',
      retryAfter: true,
      minuteMs: 60_000,
      access: 'mint',
      emailCase: 'exact',
      messages: 'typed',
      lateLoadMs: 0,
      appLoadMs: 0,
      seed: DEFAULT_SEED,
      ...options,
    }
    this.tokens = new Tokens(this.#options.tokens)
    this.#app = Fastify({ forceCloseConnections: true })
    this.#addRoutes(this.#app)
  }

  /** Calls that minted. */
  get mints (): MintCall[] {
    return this.calls.filter((call) => call.token !== undefined)
  }

  get url (): string {
    const { port } = this.#app.server.address() as AddressInfo
    return `http://${this.#options.host}:${port}`
  }

  async listen (): Promise<this> {
    await this.#app.listen({ port: this.#options.port, host: this.#options.host })
    return this
  }

  async close (): Promise<void> {
    for (const letGo of this.#hanging) letGo()
    await this.#app.close()
  }

  /** The token inside an embed URL. */
  tokenOf (redirectUrl: string): Token | undefined {
    return this.tokens.find(new URL(redirectUrl).searchParams.get('personal-access-token') ?? '')
  }

  #addRoutes (app: FastifyInstance): void {
    app.setErrorHandler((error: Error & { statusCode?: number }, request, reply) => {
      const statusCode = error.statusCode ?? 500
      if (!(error instanceof Refused)) return reply.code(statusCode).send(errorBody(statusCode, 'Internal server error', request.url))
      return reply.code(statusCode).headers(error.headers).send(errorBody(statusCode, error.reply.message, request.url))
    })
    app.setNotFoundHandler((request, reply) => reply.code(404).send(errorBody(404, `Cannot ${request.method} ${request.url}`, request.url)))
    app.addHook('onRequest', async (_request, reply) => { reply.headers(HEADERS) })

    app.post(MINT_PATH, async (request, reply) => {
      const call: MintCall = { at: Date.now(), authorization: request.headers.authorization, headers: request.headers, body: bodyOf(request) }
      this.calls.push(call)
      try {
        if (await this.#goesWrong('mint', request, reply)) return reply
        this.#checkApiToken(call.authorization)
        this.#checkLimit()
        call.isLetThrough = true
        const { token, redirectUrl } = this.#mint(call)
        call.token = token
        return await reply.code(201).send({ personalAccessToken: token, redirectUrl })
      } finally {
        call.endedAt = Date.now()
      }
    })
    app.post(SESSION_PATH, async (request, reply) => {
      this.sessionCalls.push({ at: Date.now(), headers: request.headers, body: bodyOf(request) })
      if (await this.#goesWrong('session', request, reply)) return reply
      return reply.code(201).send(this.#openSession(bodyOf(request)))
    })
    app.get('/api/ext/workspace/:workspaceId/apps', async (request) => {
      this.#checkApiToken(request.headers.authorization)
      return { apps: this.#options.seed.apps }
    })
    app.get('/api/session', async (request) => {
      const { token } = this.#useSession(request)
      return { email: token.email, app: this.#appOf(token.appId) }
    })
    app.get('/api/session/logout', async (request) => {
      this.#sessions.delete(sessionName(request))
      return {}
    })
    app.get<{ Params: { appId: string } }>('/api/apps/validate-released-app-access/:appId', async (request) => {
      this.#useSession(request)
      const app = this.#appOf(request.params.appId)
      if (app?.status === 'unreleased') throw new Refused(501, { message: 'App has not been released yet' })
      if (app?.status === 'restricted') throw new Refused(403, { message: 'You do not have access to this app' })
      return { app }
    })
    this.#addPages(app)
  }

  #addPages (app: FastifyInstance): void {
    const { publicUrl = 'http://localhost', messages, lateLoadMs, appLoadMs, seed } = this.#options
    const settings: PageSettings = { basePath: new URL(publicUrl).pathname.replace(/\/*$/, '/'), messages, lateLoadMs, appLoadMs }
    const addPage = (path: string, html: (params: { appId: string }) => string): void => {
      app.get<{ Params: { appId: string } }>(path, (request, reply) => {
        this.pageCalls.push({ at: Date.now(), url: request.url, headers: request.headers })
        return reply.type('text/html').send(html(request.params))
      })
    }
    addPage('/embed-apps/:appId', () => embedPage(settings))
    addPage('/applications/:appId', ({ appId }) => appPage(settings, seed.apps.find(({ id }) => id === appId)?.shows ?? 'deals', WORKSPACE))
    addPage('/login/:workspace?', () => loginPage(settings))
    addPage('/error/:kind', () => errorPage(settings))
    for (const [path, ms] of [['/assets/opening.svg', lateLoadMs], ['/assets/app.svg', appLoadMs]] as const) {
      app.get(path, async (_request, reply) => {
        await sleep(ms, undefined, { ref: false })
        return reply.type('image/svg+xml').header('cache-control', 'no-store').send('<svg xmlns="http://www.w3.org/2000/svg"/>')
      })
    }
  }

  /** @returns whether the call is done with */
  async #goesWrong (path: 'mint' | 'session', request: FastifyRequest, reply: FastifyReply): Promise<boolean> {
    const fault = this.faults?.({ path, body: bodyOf(request) })
    if (fault?.delayMs !== undefined) await sleep(fault.delayMs)
    if (fault?.cut === 'middle') reply.raw.write('{"personalAccessToken": "pat_')
    if (fault?.cut !== undefined) {
      reply.hijack()
      request.raw.socket.destroy()
      return true
    }
    if (fault?.hang === true) {
      reply.hijack()
      await new Promise<void>((resolve) => {
        this.#hanging.add(resolve)
        request.raw.socket.once('close', resolve)
      })
      request.raw.socket.destroy()
      return true
    }
    if (fault?.reply === undefined) return false
    const { status, body = '', headers = {} } = fault.reply
    await reply.code(status).headers(headers).send(body)
    return true
  }

  #mint ({ body }: MintCall): { token: string, redirectUrl: string } {
    const { email, appId, appSlug, patExpiry = 10 * 86_400, sessionExpiry = 60 } = body
    const complaints = [
      ...(appId !== undefined && !UUID.test(String(appId)) ? ['appId must be a UUID'] : []),
      ...(isPositiveInteger(patExpiry) ? [] : ['patExpiry must not be less than 1']),
      ...(isPositiveInteger(sessionExpiry) ? [] : ['sessionExpiry must not be less than 1']),
    ]
    if (complaints.length > 0) throw new Refused(400, { message: complaints })
    if (typeof email !== 'string' || email === '') throw new Refused(400, { message: 'Either userId or email must be provided' })
    if (appId === undefined && appSlug === undefined) throw new Error('a known defect of the server')

    const { seed, access, emailCase, patUnit } = this.#options
    const spelled = (email: string): string => emailCase === 'lower' ? email.toLowerCase() : email
    const user = seed.users.find((user) => spelled(user.email) === spelled(email))
    if (user === undefined) throw new Refused(404, { message: `User with email ${email} not found` })
    const app = seed.apps.find((app) => app.id === appId || app.slug === appSlug)
    if (app === undefined) throw new Refused(400, { message: 'Invalid appId or appSlug' })
    if (access === 'mint') checkAccess(user, app)

    const lifeMs = Number(patExpiry) * (patUnit === 'minutes' ? 60_000 : 1000)
    const { token } = this.tokens.mint(user.email, app.id, lifeMs, Number(sessionExpiry))
    return { token, redirectUrl: `${this.#options.publicUrl ?? this.url}/embed-apps/${app.id}?personal-access-token=${token}&appSlug=${app.slug}` }
  }

  #checkApiToken (authorization: string | undefined): void {
    if (authorization !== `Basic ${this.#options.apiToken}`) throw new Refused(403, { message: 'Unauthorized' })
  }

  #checkLimit (): void {
    const { mintsPerMinute, limitCounts, retryAfter, minuteMs } = this.#options
    const now = Date.now()
    const counted = this.calls.filter(({ at, token, isLetThrough }) => (limitCounts === 'mints' ? token !== undefined : isLetThrough) && at > now - minuteMs)
    if (mintsPerMinute === 0 || counted.length < mintsPerMinute) return
    const seconds = Math.ceil((counted[0]!.at + minuteMs - now) / 1000)
    throw new Refused(429, { message: 'ThrottlerException: Too Many Requests' }, retryAfter ? { 'retry-after': String(seconds) } : {})
  }

  #openSession ({ appId, accessToken }: Record<string, unknown>): { appId: string, signedPat: string } {
    if (typeof appId !== 'string' || typeof accessToken !== 'string') throw new Refused(400, { message: 'appId and accessToken are required' })
    const token = this.tokens.find(accessToken)
    if (token === undefined || token.dead !== undefined || token.appId !== appId) throw new Refused(403, { message: 'Invalid PAT token' })
    if (token.expiresAt <= Date.now()) throw new Refused(401, { message: 'PAT token expired' })
    checkAccess(this.#options.seed.users.find(({ email }) => email === token.email)!, this.#appOf(appId)!)
    const signedPat = this.#jwt({ email: token.email, appId, jti: randomBytes(12).toString('hex'), exp: Math.floor(token.expiresAt / 1000) })
    this.#sessions.set(signedPat, { token, endsAt: Date.now() + token.sessionExpiry * 60_000 })
    return { appId, signedPat }
  }

  #jwt (claims: object): string {
    const [head, payload] = [{ alg: 'HS256', typ: 'JWT' }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    return `${head}.${payload}.${createHmac('sha256', this.#jwtSecret).update(`${head}.${payload}`).digest('base64url')}`
  }

  /** Each request moves the session's end; the PAT's end is a hard stop all the same. */
  #useSession (request: FastifyRequest): { token: Token } {
    const session = this.#sessions.get(sessionName(request))
    if (session === undefined) throw new Refused(401, { message: 'Unauthorized' })
    const { token } = session
    if (token.dead !== undefined || token.expiresAt <= Date.now()) throw new Refused(401, { message: 'PAT token expired' })
    if (session.endsAt <= Date.now()) throw new Refused(401, { message: 'Session expired' })
    session.endsAt = Date.now() + token.sessionExpiry * 60_000
    return session
  }

  #appOf (appId: string): SeedApp | undefined {
    return this.#options.seed.apps.find(({ id }) => id === appId)
  }
}

function checkAccess (user: Seed['users'][number], app: SeedApp): void {
  if (!user.apps.includes(app.slug)) throw new Refused(403, { message: 'User does not have access to this app' })
}

function sessionName (request: FastifyRequest): string {
  return String(request.headers['tj_auth_token'])
}

function bodyOf (request: FastifyRequest): Record<string, unknown> {
  return (request.body ?? {}) as Record<string, unknown>
}

function isPositiveInteger (value: unknown): boolean {
  return Number.isInteger(value) && Number(value) >= 1
}
