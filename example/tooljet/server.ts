import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { appPage, embedPage, loginPage } from './pages.js'
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
  /** Whether the 429 of that limit says when to come back. @default true */
  retryAfter?: boolean
  /** What stands for a minute, ms. @default 60000 */
  minuteMs?: number
  seed?: Seed
}

/** One call of the mint endpoint, as it arrived. */
export interface MintCall {
  at: number
  authorization: string | undefined
  body: Record<string, unknown>
  /** When its answer had been made; `undefined` while it is under way. */
  endedAt?: number
  /** The token, when one was minted. */
  token?: string
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

export function errorBody (statusCode: number, message: string | string[], path = MINT_PATH): ErrorBody {
  return { statusCode, timestamp: new Date().toISOString(), path, message }
}

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
  readonly tokens: Tokens
  /** Set by tests. */
  faults: Faults | undefined
  readonly #options: Required<Omit<ToolJetOptions, 'publicUrl'>> & Pick<ToolJetOptions, 'publicUrl'>
  readonly #sessions = new Map<string, { token: Token, endsAt: number }>()
  readonly #hanging = new Set<() => void>()
  readonly #app: FastifyInstance

  constructor (options: ToolJetOptions) {
    this.#options = { port: 0, host: '127.0.0.1', tokens: 'insert', patUnit: 'seconds', mintsPerMinute: 0, retryAfter: true, minuteMs: 60_000, seed: DEFAULT_SEED, ...options }
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
    app.addHook('onRequest', async (_request, reply) => { reply.header('content-security-policy', 'frame-ancestors *') })

    app.post(MINT_PATH, async (request, reply) => {
      const call: MintCall = { at: Date.now(), authorization: request.headers.authorization, body: bodyOf(request) }
      this.calls.push(call)
      try {
        if (await this.#goesWrong('mint', request, reply)) return reply
        const { token, redirectUrl } = this.#mint(call)
        call.token = token
        return await reply.code(201).send({ personalAccessToken: token, redirectUrl })
      } finally {
        call.endedAt = Date.now()
      }
    })
    app.post('/api/ext/users/session', async (request, reply) => {
      if (await this.#goesWrong('session', request, reply)) return reply
      return reply.code(201).send(this.#openSession(bodyOf(request)))
    })
    app.get('/api/ext/workspace/:workspaceId/apps', async (request) => {
      this.#checkApiToken(request.headers.authorization)
      return { apps: this.#options.seed.apps }
    })
    app.get('/api/session', async (request) => this.#useSession(request))

    app.get<{ Params: { appId: string } }>('/embed-apps/:appId', (_request, reply) => reply.type('text/html').send(embedPage()))
    app.get<{ Params: { appId: string } }>('/applications/:appId', (_request, reply) => reply.type('text/html').send(appPage()))
    app.get('/login', (_request, reply) => reply.type('text/html').send(loginPage()))
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

  #mint ({ authorization, body }: MintCall): { token: string, redirectUrl: string } {
    this.#checkApiToken(authorization)
    this.#checkLimit()
    const { email, appId, appSlug, patExpiry = 10 * 86_400, sessionExpiry = 60 } = body
    const complaints = [
      ...(appId !== undefined && !UUID.test(String(appId)) ? ['appId must be a UUID'] : []),
      ...(isPositiveInteger(patExpiry) ? [] : ['patExpiry must not be less than 1']),
      ...(isPositiveInteger(sessionExpiry) ? [] : ['sessionExpiry must not be less than 1']),
    ]
    if (complaints.length > 0) throw new Refused(400, { message: complaints })
    if (typeof email !== 'string' || email === '') throw new Refused(400, { message: 'Either userId or email must be provided' })
    if (appId === undefined && appSlug === undefined) throw new Error('a known defect of the server')

    const user = this.#options.seed.users.find((user) => user.email === email)
    if (user === undefined) throw new Refused(404, { message: `User with email ${email} not found` })
    const app = this.#options.seed.apps.find((app) => app.id === appId || app.slug === appSlug)
    if (app === undefined) throw new Refused(400, { message: 'Invalid appId or appSlug' })
    if (!user.apps.includes(app.slug)) throw new Refused(403, { message: 'User does not have access to this app' })

    const lifeMs = Number(patExpiry) * (this.#options.patUnit === 'minutes' ? 60_000 : 1000)
    const { token } = this.tokens.mint(email, app.id, lifeMs, Number(sessionExpiry))
    return { token, redirectUrl: `${this.#options.publicUrl ?? this.url}/embed-apps/${app.id}?personal-access-token=${token}&appSlug=${app.slug}` }
  }

  #checkApiToken (authorization: string | undefined): void {
    if (authorization !== `Basic ${this.#options.apiToken}`) throw new Refused(403, { message: 'Unauthorized' })
  }

  #checkLimit (): void {
    const { mintsPerMinute, retryAfter, minuteMs } = this.#options
    const now = Date.now()
    const counted = this.mints.filter(({ at }) => at > now - minuteMs)
    if (mintsPerMinute === 0 || counted.length < mintsPerMinute) return
    const seconds = Math.ceil((counted[0]!.at + minuteMs - now) / 1000)
    throw new Refused(429, { message: 'ThrottlerException: Too Many Requests' }, retryAfter ? { 'retry-after': String(seconds) } : {})
  }

  #openSession ({ appId, accessToken }: Record<string, unknown>): { appId: string, signedPat: string } {
    if (typeof appId !== 'string' || typeof accessToken !== 'string') throw new Refused(400, { message: 'appId and accessToken are required' })
    const token = this.tokens.find(accessToken)
    if (token === undefined || token.dead !== undefined || token.appId !== appId) throw new Refused(403, { message: 'Invalid PAT token' })
    if (token.expiresAt <= Date.now()) throw new Refused(401, { message: 'PAT token expired' })
    const signedPat = randomBytes(24).toString('base64url')
    this.#sessions.set(signedPat, { token, endsAt: Date.now() + token.sessionExpiry * 60_000 })
    return { appId, signedPat }
  }

  /** Each request moves the session's end; the PAT's end is a hard stop all the same. */
  #useSession (request: FastifyRequest): { email: string, app: Seed['apps'][number] } {
    const session = this.#sessions.get(String(request.headers['tj_auth_token']))
    if (session === undefined) throw new Refused(401, { message: 'Unauthorized' })
    const { token } = session
    if (token.dead !== undefined || token.expiresAt <= Date.now()) throw new Refused(401, { message: 'PAT token expired' })
    if (session.endsAt <= Date.now()) throw new Refused(401, { message: 'Session expired' })
    session.endsAt = Date.now() + token.sessionExpiry * 60_000
    return { email: token.email, app: this.#options.seed.apps.find(({ id }) => id === token.appId)! }
  }
}

function bodyOf (request: FastifyRequest): Record<string, unknown> {
  return (request.body ?? {}) as Record<string, unknown>
}

function isPositiveInteger (value: unknown): boolean {
  return Number.isInteger(value) && Number(value) >= 1
}
