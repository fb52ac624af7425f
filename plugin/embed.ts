import type { FastifyRequest } from 'fastify'
import type { App, AppAsk, Apps, UncheckedAsk } from './apps.js'
import type { Audit } from './audit/audit.js'
import { embedError, failureEvent, isEmbedError } from './errors.js'
import { normalizeEmail, whoAsks, type Identity } from './identity.js'
import type { Limits, LimitState } from './limits.js'
import type { ToolJet } from './tooljet/tooljet.js'
import type { Keys } from './urls/keys.js'
import { secondsLeft, type HeldUrl } from './urls/store.js'
import type { GivenUrl, Urls } from './urls/urls.js'

/** What `request.tooljetEmbedUrl()` takes; nothing is needed where `apps` has one entry. */
export type TooljetEmbedAsk = AppAsk & {
  /** The `urlId` of a URL that turned out dead: another one is given. */
  replaces?: string | undefined
}

/** An ask of the route, or of a host without types. */
interface AnyAsk extends UncheckedAsk {
  replaces?: string | undefined
  /** Compared with the signed-in user's, and never used. */
  email?: string | undefined
}

/** An embed URL for the signed-in user. */
export interface TooljetEmbedUrl {
  /** For an iframe's `src`; a secret of its user. */
  redirectUrl: string
  /** Opaque id of this URL, to report it dead with `replaces`. */
  urlId: string
  /** Exactly one answer per mint says `minted`. */
  source: 'minted' | 'reused'
  /** ISO 8601. */
  expiresAt: string
  /** Whole seconds of life left. */
  expiresIn: number
}

/** What becomes known of an ask on its way, for the audit log and the reply's headers. */
export interface Trail {
  startedAt: number
  email?: string
  ask?: AnyAsk
  limit?: LimitState | undefined
  /** Its audit event is made. */
  settled?: boolean
}

type Authorize = (request: FastifyRequest, ask: { email: string, app: string }) => boolean | Promise<boolean>

interface EmbedParts {
  identity: Identity
  authorize: Authorize | undefined
  apps: Apps
  limits: Limits | undefined
  keys: Keys
  urls: Urls
  tooljet: ToolJet
  audit: Audit
}

/** The walk from an ask to a URL. Every rule is kept here, once, for the route and the decorator alike. */
export class Embed {
  readonly #parts: EmbedParts

  constructor (parts: EmbedParts) {
    this.#parts = parts
  }

  newTrail (): Trail {
    return { startedAt: performance.now() }
  }

  /** @throws a coded error; what was thrown is in the audit log */
  async urlFor (request: FastifyRequest, ask: AnyAsk, trail = this.newTrail()): Promise<TooljetEmbedUrl> {
    let url: GivenUrl
    trail.ask = ask
    try {
      url = await this.#walk(request, ask, trail)
    } catch (error) {
      this.#recordFailure(request, trail, error)
      throw error
    }
    trail.settled = true
    const given = { urlId: url.urlId, expiresAt: url.expiresAt }
    try {
      await this.#parts.audit.recordGiven({ event: `url.${url.source}`, ...this.#told(request, trail), ...given })
    } catch (error) {
      // whether that event is written is in doubt: what became of the answer is said besides
      this.#recordFailure(request, trail, error, given)
      throw error
    }
    return answer(url)
  }

  async #walk (request: FastifyRequest, ask: AnyAsk, trail: Trail): Promise<GivenUrl> {
    const { identity, apps, limits, keys, urls, tooljet, audit } = this.#parts

    const email = trail.email = await whoAsks(identity, request)
    const user = keys.userHash(email)
    if (limits !== undefined) trail.limit = await limits.ask(user)
    if (ask.email !== undefined && normalizeEmail(ask.email) !== email) throw embedError('TOOLJET_EMBED_EMAIL_MISMATCH')

    const app = apps.resolve(ask)
    const replaces = checkedUrlId(ask.replaces)
    if (!await this.#mayOpen(request, email, app)) throw embedError('TOOLJET_EMBED_APP_NOT_ALLOWED')

    audit.mustBeWritable() // no mint for a URL that could not leave
    const url = await urls.get({ user, app, replaces }, async () => {
      await tooljet.mayBeCalled()
      await limits?.mint(user)
      return tooljet.mint(email, app)
    })
    audit.mustBeWritable()
    return url
  }

  async forget (whose: UncheckedAsk & { email: string }): Promise<number> {
    const { apps, keys, urls, audit } = this.#parts
    const { email: given, ...ask } = whose ?? {}
    const startedAt = performance.now()
    if (typeof given !== 'string' || given.trim() === '') throw embedError('TOOLJET_EMBED_BAD_REQUEST', { detail: 'forget takes the "email" of a user' })
    const email = normalizeEmail(given)
    const app = Object.values(ask).some((name) => name !== undefined) ? apps.resolve(ask) : undefined
    const event = { event: 'url.forgotten', email, app: app?.label } as const
    try {
      const dropped = await urls.forget(keys.userHash(email), app?.key)
      audit.record({ ...event, durationMs: performance.now() - startedAt })
      return dropped
    } catch (error) {
      audit.record({ ...event, code: codeOf(error), durationMs: performance.now() - startedAt })
      throw error
    }
  }

  /**
   * For what went wrong before the walk, with a malformed body: an ask like any other, if the user is signed in.
   * @returns the error to answer with
   */
  async refuse (request: FastifyRequest, trail: Trail, error: unknown): Promise<unknown> {
    if (trail.settled) return error
    const { identity, keys, limits } = this.#parts
    try {
      trail.email = await whoAsks(identity, request)
    } catch {
      return error
    }
    try {
      trail.limit = await limits?.ask(keys.userHash(trail.email))
    } catch (limited) {
      error = limited
    }
    this.#recordFailure(request, trail, error)
    return error
  }

  #recordFailure (request: FastifyRequest, trail: Trail, error: unknown, given = {}): void {
    trail.settled = true
    const event = failureEvent(error)
    if (event !== undefined) this.#parts.audit.record({ event, code: codeOf(error), ...this.#told(request, trail), ...given })
  }

  #told (request: FastifyRequest, { startedAt, email, ask }: Trail) {
    return {
      email,
      app: ask && this.#parts.apps.labelOf(ask),
      requestId: String(request.id),
      ip: request.ip,
      userAgent: request.headers['user-agent'],
      durationMs: performance.now() - startedAt,
    }
  }

  async #mayOpen (request: FastifyRequest, email: string, app: App): Promise<boolean> {
    const { authorize } = this.#parts
    return authorize === undefined || await authorize(request, { email, app: app.label }) === true
  }
}

const URL_ID = /^[A-Za-z0-9_-]{1,64}$/

function checkedUrlId (replaces: unknown): string | undefined {
  if (replaces === undefined || (typeof replaces === 'string' && URL_ID.test(replaces))) return replaces
  throw embedError('TOOLJET_EMBED_BAD_REQUEST', { detail: '"replaces" takes the urlId of an earlier answer' })
}

/** The host's own errors have codes of their own. */
function codeOf (error: unknown): string {
  if (isEmbedError(error)) return error.code
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'ERROR'
}

function answer (url: GivenUrl): TooljetEmbedUrl {
  return {
    redirectUrl: url.redirectUrl,
    urlId: url.urlId,
    source: url.source,
    expiresAt: new Date(url.expiresAt).toISOString(),
    expiresIn: wholeSecondsLeft(url),
  }
}

function wholeSecondsLeft (url: HeldUrl): number {
  return Math.max(0, Math.floor(secondsLeft(url)))
}
