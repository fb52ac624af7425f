import type { FastifyRequest } from 'fastify'
import type { App, Apps } from './access/apps.js'
import { normalizeEmail } from './access/identity.js'
import type { Limits } from './access/limits.js'
import { parseUrlId, type TooljetEmbedUrl, type UrlLookup } from './lookup.js'
import type { Audit } from './audit/audit.js'
import type { UrlCache, UrlResult } from './cache/url-cache.js'
import { randomId } from './crypto/random-id.js'
import { codeOf, embedError, failureEvent, isEmbedError, type LimitState } from './errors.js'
import { requestIdOf, traceIdOf } from './observability/request-ids.js'
import { sanitize } from './observability/sanitize.js'
import { traced, urlChannel, type TooljetEmbedUrlTrace } from './observability/tracing.js'
import type { ToolJet } from './tooljet/tooljet.js'
import type { ToolJetRegistry } from './tooljet/registry.js'

/** What became of a request: a URL, or the error to answer with. */
export interface Outcome {
  url?: TooljetEmbedUrl
  error?: unknown
  /** Where the user stands, once the request has been counted. */
  limit?: LimitState | undefined
}

/** What is known of a request so far, for its audit event. */
interface RequestContext {
  /** On the clock of `performance`. */
  startedAt: number
  email?: string
  tooljet?: ToolJet
  lookup?: UrlLookup
  app?: App
  limit?: LimitState | undefined
}

type Authorize = (request: FastifyRequest, lookup: { email: string, app: string }) => boolean | Promise<boolean>

interface EmbedDeps {
  /** The e-mail of the signed-in user. @throws TOOLJET_EMBED_UNAUTHENTICATED */
  resolveUser: (request: FastifyRequest) => Promise<string>
  authorize: Authorize | undefined
  apps: Apps
  limits: Limits | undefined
  cache: UrlCache
  tooljets: ToolJetRegistry
  /** Stands for a user in the limits' key names while it is not known which ToolJet the request is for. */
  fallbackUserHash: (email: string) => string
  audit: Audit
}

/** From a request to a URL: admit, resolve, audit. Every rule is here, once, for the route and the decorator alike. */
export class Embed {
  readonly #deps: EmbedDeps

  constructor (deps: EmbedDeps) {
    this.#deps = deps
  }

  /** @throws a coded error; what was thrown is in the audit log */
  async urlFor (request: FastifyRequest, lookup: UrlLookup): Promise<TooljetEmbedUrl> {
    const { url, error } = await this.handle(request, lookup)
    if (url === undefined) throw error
    return url
  }

  /** Never throws. */
  handle (request: FastifyRequest, lookup: UrlLookup, startedAt = performance.now()): Promise<Outcome> {
    const context: RequestContext = { startedAt, lookup }
    return this.#outcome(request, context, () => this.#audited(request, context, () => this.#resolve(request, lookup, context)))
  }

  /** For what went wrong before there was a lookup, with a malformed body: counted and audited like any other, if the user is signed in. */
  handleInvalidRequest (request: FastifyRequest, error: unknown, startedAt: number): Promise<Outcome> {
    const context: RequestContext = { startedAt }
    return this.#outcome(request, context, async () => {
      if (codeOf(error) === 'TOOLJET_EMBED_UNAUTHENTICATED') throw error
      const email = await this.#deps.resolveUser(request).catch(() => { throw error })
      context.email = email
      return this.#audited(request, context, async () => {
        await this.#count(request, email, context)
        throw error
      })
    })
  }

  async #outcome (request: FastifyRequest, context: RequestContext, answer: () => Promise<TooljetEmbedUrl>): Promise<Outcome> {
    try {
      const url = await (urlChannel.hasSubscribers ? this.#traced(request, context, answer) : answer())
      return { url, limit: context.limit }
    } catch (error) {
      return { error, limit: context.limit ?? (isEmbedError(error) ? error.limit : undefined) }
    }
  }

  /** The one place that records how a request ended. With `delivery: 'required'` a URL leaves when its event is written. */
  async #audited (request: FastifyRequest, context: RequestContext, resolve: () => Promise<UrlResult>): Promise<TooljetEmbedUrl> {
    const { audit } = this.#deps
    let given = {}
    try {
      const url = await resolve()
      given = { urlId: url.urlId, expiresAt: url.expiresAt }
      await audit.recordIssued({ event: `url.${url.source}`, ...this.#auditFields(request, context), ...given })
      return answer(url)
    } catch (error) {
      const event = failureEvent(error)
      const reason = isEmbedError(error) ? error.reason : undefined
      const target = reason === 'other_user' ? normalizeEmail(context.lookup?.email ?? '') : undefined
      // `given`: whether the event of that URL is written is in doubt, so what became of the answer is said besides
      if (event !== undefined) audit.record({ event, code: codeOf(error), ...this.#auditFields(request, context), ...given, reason, target })
      throw error
    }
  }

  async #resolve (request: FastifyRequest, lookup: UrlLookup, context: RequestContext): Promise<UrlResult> {
    const { limits, cache, audit } = this.#deps
    const { email, tooljet, user, app, replaces, prefetched } = await this.#admit(request, lookup, context)

    audit.assertWritable() // no mint for a URL that could not leave
    const { lockTtlMs, timeoutMs } = tooljet
    const name = randomId(9) // it is counted once, however often a lock has to be taken for it
    const url = await cache.get({ user, app, replaces, prefetched, lockTtlMs, mintTimeoutMs: timeoutMs }, async ({ checkLock, hasOther, heldMs }) => {
      await limits?.mayMint(user, name) // who may not does not wait for a turn
      const purpose = replaces !== undefined ? 'replaces' : hasOther ? 'more' : 'first'
      return tooljet.mint({ email, user, app, purpose, ticket: lookup.ticket, maxPlaces: limits?.mints ?? MAX_PLACES, heldMs, count: () => limits?.mint(user, name), checkLock })
    })
    audit.assertWritable()
    return url
  }

  /** Who asks for which app, whether within the limit, and whether they may. */
  async #admit (request: FastifyRequest, lookup: UrlLookup, context: RequestContext) {
    const { resolveUser, authorize, apps } = this.#deps

    const email = context.email = await resolveUser(request)
    const found = apps.find(lookup)
    const lookedFor = authorize === undefined ? found : undefined // it may take its time, and the URL be forgotten meanwhile
    const { tooljet, user, prefetched } = await this.#count(request, email, context, lookedFor)
    if (lookup.email !== undefined && normalizeEmail(lookup.email) !== email) throw embedError('TOOLJET_EMBED_EMAIL_MISMATCH', { reason: 'other_user' })

    const app = context.app = found ?? apps.resolve(lookup) // which throws what is wrong with it
    const replaces = parseUrlId(lookup.replaces)
    if (!await this.#isAuthorized(request, email, app)) throw embedError('TOOLJET_EMBED_APP_NOT_ALLOWED', { reason: 'not_authorized' })
    return { email, tooljet, user, app, replaces, prefetched } // no spread of what was counted: it alone would be 3 % of a hit
  }

  /** Counts the request of a user of its ToolJet; one that has none is counted, too. */
  async #count (request: FastifyRequest, email: string, context: RequestContext, app?: App) {
    const { tooljets, fallbackUserHash, limits, cache } = this.#deps
    try {
      context.tooljet = await tooljets.forRequest(request)
    } catch (error) {
      context.limit = await limits?.request(fallbackUserHash(email))
      throw error
    }
    const user = context.tooljet.userHash(email)
    const prefetched = app && cache.prefetch(user, app) // on its way together with the limiter's question
    context.limit = await limits?.request(user)
    return { tooljet: context.tooljet, user, prefetched }
  }

  async #isAuthorized (request: FastifyRequest, email: string, app: App): Promise<boolean> {
    const { authorize } = this.#deps
    return authorize === undefined || await authorize(request, { email, app: app.displayName }) === true
  }

  #auditFields (request: FastifyRequest, { startedAt, email, tooljet, lookup, app }: RequestContext) {
    const { apps, tooljets } = this.#deps
    return {
      email,
      app: app?.displayName ?? (lookup && apps.displayNameOf(lookup)),
      tooljet: tooljets.displayNameOf(tooljet),
      requestId: requestIdOf(request),
      ip: request.ip,
      userAgent: request.headers['user-agent'],
      traceId: traceIdOf(request),
      durationMs: performance.now() - startedAt,
    }
  }

  #traced (request: FastifyRequest, context: RequestContext, answer: () => Promise<TooljetEmbedUrl>): Promise<TooljetEmbedUrl> {
    const trace: TooljetEmbedUrlTrace = { instance: this.#deps.audit.health().instance, requestId: sanitize(requestIdOf(request)) }
    return traced(urlChannel, trace, async () => {
      try {
        const url = await answer()
        trace.source = url.source
        trace.urlId = url.urlId
        return url
      } finally {
        trace.app = context.app?.displayName
      }
    })
  }
}

/** Of a user in the queue, without a limit of mints. */
const MAX_PLACES = 6

function answer ({ redirectUrl, urlId, source, expiresAt, secondsLeft }: UrlResult): TooljetEmbedUrl {
  return { redirectUrl, urlId, source, expiresAt: new Date(expiresAt).toISOString(), expiresIn: Math.max(0, Math.floor(secondsLeft)) }
}
