import type { FastifyRequest } from 'fastify'
import type { App, AppAsk, Apps, UncheckedAsk } from './access/apps.js'
import type { Audit } from './audit/audit.js'
import { codeOf, embedError, failureEvent, isEmbedError } from './errors.js'
import { sanitize } from './observability/sanitize.js'
import { normalizeEmail, parseEmail } from './access/identity.js'
import type { Limits, LimitState } from './access/limits.js'
import type { TooljetTarget } from './tooljet/target.js'
import type { ToolJet } from './tooljet/tooljet.js'
import type { ToolJets } from './tooljet/tooljets.js'
import { traced, urlChannel, type TooljetEmbedUrlTrace } from './observability/tracing.js'
import { randomId } from './crypto/random-id.js'
import type { UrlCache, UrlResult } from './cache/url-cache.js'

/** What `request.tooljetEmbedUrl()` takes; nothing is needed where `apps` has one entry. */
export type TooljetEmbedAsk = AppAsk & {
  /** The `urlId` of a URL that turned out dead: another one is given. */
  replaces?: string | undefined
  /** Of the answer `TOOLJET_EMBED_BUSY` before: it keeps the place in the queue. */
  ticket?: string | undefined
}

/** A request as it comes by the route, or from a host without types. */
interface AnyAsk extends UncheckedAsk {
  replaces?: string | undefined
  ticket?: string | undefined
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

/** What becomes known of a request on its way, for the audit log and the reply's headers. */
export interface Trail {
  startedAt: number
  email?: string
  tooljet?: ToolJet
  ask?: AnyAsk
  app?: App
  limit?: LimitState | undefined
  /** Its audit event is made. */
  settled?: boolean
}

/** What `fastify.tooljetEmbed.forget()` takes. */
export type TooljetEmbedForget = AppAsk & {
  /** Of the user. */
  email: string
  /** Where option `tooljet` is a function, and only there: the user's ToolJet, as the function gives it. */
  tooljet?: TooljetTarget
  /** Who asks for it, for the audit log: 256 characters of it. */
  by?: string
  /** Why, for the audit log: 256 characters of it. */
  reason?: string
}

type Authorize = (request: FastifyRequest, ask: { email: string, app: string }) => boolean | Promise<boolean>

interface EmbedParts {
  /** The e-mail of the signed-in user. @throws TOOLJET_EMBED_UNAUTHENTICATED */
  resolveUser: (request: FastifyRequest) => Promise<string>
  authorize: Authorize | undefined
  apps: Apps
  limits: Limits | undefined
  cache: UrlCache
  tooljets: ToolJets
  /** Stands for a user in the limits' key names while it is not known which ToolJet the request is for. */
  fallbackUserHash: (email: string) => string
  audit: Audit
}

/** From a request to a URL. Every rule is here, once, for the route and the decorator alike. */
export class Embed {
  readonly #parts: EmbedParts

  constructor (parts: EmbedParts) {
    this.#parts = parts
  }

  newTrail (): Trail {
    return { startedAt: performance.now() }
  }

  /** @throws a coded error; what was thrown is in the audit log */
  urlFor (request: FastifyRequest, ask: AnyAsk, trail = this.newTrail()): Promise<TooljetEmbedUrl> {
    if (!urlChannel.hasSubscribers) return this.#answerTo(request, ask, trail)
    return this.#traced(request, trail, () => this.#answerTo(request, ask, trail))
  }

  async #answerTo (request: FastifyRequest, ask: AnyAsk, trail: Trail): Promise<TooljetEmbedUrl> {
    let url: UrlResult
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
      await this.#parts.audit.recordIssued({ event: `url.${url.source}`, ...this.#told(request, trail), ...given })
    } catch (error) {
      // whether that event is written is in doubt: what became of the answer is said besides
      this.#recordFailure(request, trail, error, given)
      throw error
    }
    return answer(url)
  }

  async #walk (request: FastifyRequest, ask: AnyAsk, trail: Trail): Promise<UrlResult> {
    const { resolveUser, authorize, apps, limits, cache, audit } = this.#parts

    const email = trail.email = await resolveUser(request)
    const found = apps.find(ask)
    const lookedFor = authorize === undefined ? found : undefined // it may take its time, and the URL be forgotten meanwhile
    const { tooljet, user, prefetched } = await this.#enter(request, email, trail, lookedFor)
    if (ask.email !== undefined && normalizeEmail(ask.email) !== email) throw embedError('TOOLJET_EMBED_EMAIL_MISMATCH', { reason: 'other_user' })

    const app = trail.app = found ?? apps.resolve(ask) // which throws what is wrong with it
    const replaces = checkedUrlId(ask.replaces)
    if (!await this.#mayOpen(request, email, app)) throw embedError('TOOLJET_EMBED_APP_NOT_ALLOWED', { reason: 'not_authorized' })

    audit.assertWritable() // no mint for a URL that could not leave
    const { lockTtlMs, timeoutMs } = tooljet
    const name = randomId(9) // it is counted once, however often a lock has to be taken for it
    const url = await cache.get({ user, app, replaces, prefetched, lockTtlMs, mintTimeoutMs: timeoutMs }, async ({ checkLock, hasOther, heldMs }) => {
      await limits?.mayMint(user, name) // who may not does not wait for a turn
      const purpose = replaces !== undefined ? 'replaces' : hasOther ? 'more' : 'first'
      return tooljet.mint({ email, user, app, purpose, ticket: ask.ticket, maxPlaces: limits?.mints ?? MAX_PLACES, heldMs, count: () => limits?.mint(user, name), checkLock })
    })
    audit.assertWritable()
    return url
  }

  /** The ToolJet of a request, where the request is counted; one that has none is counted, too. */
  async #enter (request: FastifyRequest, email: string, trail: Trail, app?: App) {
    const { tooljets, fallbackUserHash, limits, cache } = this.#parts
    try {
      trail.tooljet = await tooljets.of(request)
    } catch (error) {
      trail.limit = await limits?.request(fallbackUserHash(email))
      throw error
    }
    const user = trail.tooljet.userHash(email)
    const prefetched = app && cache.prefetch(user, app) // on its way together with the limiter's question
    trail.limit = await limits?.request(user)
    return { tooljet: trail.tooljet, user, prefetched }
  }

  async forget (whose: TooljetEmbedForget): Promise<number> {
    const { apps, tooljets, cache, audit } = this.#parts
    const { email: given, tooljet: target, by, reason, ...ask } = whose ?? {}
    const startedAt = performance.now()
    const email = parseEmail(given)
    if (email === undefined) throw embedError('TOOLJET_EMBED_BAD_REQUEST', { detail: 'forget takes the "email" of a user' })
    for (const [name, text] of Object.entries({ by, reason })) {
      if (text !== undefined && typeof text !== 'string') throw embedError('TOOLJET_EMBED_BAD_REQUEST', { detail: `forget takes a text as "${name}"` })
    }
    const app = Object.values(ask).some((name) => name !== undefined) ? apps.resolve(ask) : undefined
    const tooljet = tooljets.named(target)
    const event = { event: 'url.forgotten', email, app: app?.label, tooljet: this.#labelOf(tooljet), by, reason } as const
    try {
      const dropped = await cache.forget(tooljet.userHash(email), app?.key ?? '*')
      audit.record({ ...event, durationMs: performance.now() - startedAt })
      return dropped
    } catch (error) {
      audit.record({ ...event, code: codeOf(error), durationMs: performance.now() - startedAt })
      throw error
    }
  }

  /**
   * For what went wrong before `urlFor`, with a malformed body: a request like any other, if the user is signed in.
   * @throws the error to answer with
   */
  refuse (request: FastifyRequest, trail: Trail, error: unknown): Promise<never> {
    return this.#traced(request, trail, () => this.#refuse(request, trail, error))
  }

  async #refuse (request: FastifyRequest, trail: Trail, error: unknown): Promise<never> {
    if (codeOf(error) === 'TOOLJET_EMBED_UNAUTHENTICATED') throw error
    try {
      trail.email = await this.#parts.resolveUser(request)
    } catch {
      throw error
    }
    try {
      await this.#enter(request, trail.email, trail)
    } catch (refused) {
      error = refused
    }
    this.#recordFailure(request, trail, error)
    throw error
  }

  /** Tells the subscribers of `tooljet-embed:url`. */
  #traced<T extends TooljetEmbedUrl> (request: FastifyRequest, trail: Trail, answer: () => Promise<T>): Promise<T> {
    const told: TooljetEmbedUrlTrace = { instance: this.#parts.audit.health().instance, requestId: sanitize(requestIdOf(request)) }
    return traced(urlChannel, told, async () => {
      try {
        const url = await answer()
        told.source = url.source
        told.urlId = url.urlId
        return url
      } finally {
        told.app = trail.app?.label
      }
    })
  }

  #recordFailure (request: FastifyRequest, trail: Trail, error: unknown, given = {}): void {
    trail.settled = true
    const event = failureEvent(error)
    if (event === undefined) return
    const reason = isEmbedError(error) ? error.reason : undefined
    const target = reason === 'other_user' ? normalizeEmail(trail.ask?.email ?? '') : undefined
    this.#parts.audit.record({ event, code: codeOf(error), ...this.#told(request, trail), ...given, reason, target })
  }

  #told (request: FastifyRequest, { startedAt, email, tooljet, ask, app }: Trail) {
    return {
      email,
      app: app?.label ?? (ask && this.#parts.apps.labelOf(ask)),
      tooljet: this.#labelOf(tooljet),
      requestId: requestIdOf(request),
      ip: request.ip,
      userAgent: request.headers['user-agent'],
      traceId: traceIdOf(request),
      durationMs: performance.now() - startedAt,
    }
  }

  /** The log of one ToolJet need not name it. */
  #labelOf (tooljet: ToolJet | undefined): string | undefined {
    return this.#parts.tooljets.areSeveral ? tooljet?.url : undefined
  }

  async #mayOpen (request: FastifyRequest, email: string, app: App): Promise<boolean> {
    const { authorize } = this.#parts
    return authorize === undefined || await authorize(request, { email, app: app.label }) === true
  }
}

const TRACEPARENT = /^[\da-f]{2}-(?!0{32})([\da-f]{32})-[\da-f]{16}-[\da-f]{2}/

/** Of W3C's header, where the request has one. */
function traceIdOf ({ headers: { traceparent } }: FastifyRequest): string | undefined {
  return typeof traceparent === 'string' ? TRACEPARENT.exec(traceparent)?.[1] : undefined
}

/** As text, where it can be told: a host's `genReqId` may give anything. */
function requestIdOf ({ id }: { id: unknown }): string | undefined {
  try {
    const text = String(id ?? '')
    return text.startsWith('[object ') ? undefined : text
  } catch {
    return undefined
  }
}

/** Of a user in the queue, without a limit of mints. */
const MAX_PLACES = 6

const URL_ID = /^[A-Za-z0-9_-]{1,64}$/

function checkedUrlId (replaces: unknown): string | undefined {
  if (replaces === undefined || (typeof replaces === 'string' && URL_ID.test(replaces))) return replaces
  throw embedError('TOOLJET_EMBED_BAD_REQUEST', { detail: '"replaces" takes the urlId of an earlier answer' })
}

function answer ({ redirectUrl, urlId, source, expiresAt, secondsLeft }: UrlResult): TooljetEmbedUrl {
  return { redirectUrl, urlId, source, expiresAt: new Date(expiresAt).toISOString(), expiresIn: Math.max(0, Math.floor(secondsLeft)) }
}
