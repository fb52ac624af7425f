import type { FastifyRequest } from 'fastify'
import type { App, Apps } from './access/apps.js'
import { normalizeEmail, type User } from './access/identity.js'
import type { Limits } from './access/limits.js'
import { parseUrlId, type TooljetEmbedUrl, type UrlLookup } from './lookup.js'
import type { Audit } from './audit/audit.js'
import type { AuditEvent } from './audit/event.js'
import type { UrlCache, UrlResult } from './cache/url-cache.js'
import { randomId } from './crypto/random-id.js'
import { codeOf, embedError, failureEvent, isEmbedError, readable, type LimitState } from './errors.js'
import { requestIdOf, traceIdOf } from './observability/request-ids.js'
import { sanitize } from './observability/sanitize.js'
import { traced, urlChannel, type TooljetEmbedUrlTrace } from './observability/tracing.js'
import { Spellings } from './tooljet/spellings.js'
import type { ToolJet } from './tooljet/tooljet.js'
import type { ToolJetRegistry } from './tooljet/registry.js'

/** Places in the mint queue that one user may hold: as many as `rateLimit.mints`, or this many without it. */
const DEFAULT_PLACES = 6

/** Result of a request: a URL, or the error to answer with. */
export interface Outcome {
  url?: TooljetEmbedUrl
  error?: unknown
  /** State of the user's limit, once the request has been counted. */
  limit?: LimitState | undefined
}

/** What is known of a request so far, for its audit event. */
interface RequestContext {
  /** By `performance.now()`, ms. */
  startedAt: number
  email?: string
  tooljet?: ToolJet
  lookup?: UrlLookup
  app?: App
  limit?: LimitState | undefined
}

type Authorize = (request: FastifyRequest, lookup: { email: string, app: string }) => boolean | Promise<boolean>

interface EmbedDeps {
  /** The signed-in user. @throws TOOLJET_EMBED_UNAUTHENTICATED */
  resolveUser: (request: FastifyRequest) => User | Promise<User>
  authorize: Authorize | undefined
  apps: Apps
  limits: Limits | undefined
  cache: UrlCache
  tooljets: ToolJetRegistry
  /** Stands for a user in the limits' key names while it is not known which ToolJet the request is for. */
  fallbackUserHash: (email: string) => string
  audit: Audit
}

/**
 * From a request to a URL: admit it, get the URL, record the outcome. Every rule is here, once, for the route and the decorator
 * alike. It waits only for what it has to: each `await` costs a hit a hundredth of its time.
 */
export class Embed {
  readonly #deps: EmbedDeps

  constructor (deps: EmbedDeps) {
    this.#deps = deps
  }

  /** @throws a coded error, or what the host's own code has thrown */
  async urlFor (request: FastifyRequest, lookup: UrlLookup): Promise<TooljetEmbedUrl> {
    const { url, error } = await this.handle(request, lookup)
    if (url === undefined) throw error
    return url
  }

  /** Never throws. */
  handle (request: FastifyRequest, lookup: UrlLookup, startedAt = performance.now()): Promise<Outcome> {
    const context: RequestContext = { startedAt, lookup }
    return this.#traced(request, context, () => this.#audited(request, context, () => this.#getUrl(request, lookup, context)))
  }

  /** For a request that failed before its body was parsed: it is counted and audited like any other, if the user is signed in. */
  handleInvalidRequest (request: FastifyRequest, thrown: unknown, startedAt: number): Promise<Outcome> {
    const context: RequestContext = { startedAt }
    const error = readable(thrown)
    return this.#traced(request, context, async () => {
      try {
        if (codeOf(error) === 'TOOLJET_EMBED_UNAUTHENTICATED') return { error }
        context.email = (await this.#deps.resolveUser(request)).email
      } catch {
        return { error }
      }
      const { email } = context
      return this.#audited(request, context, async () => {
        await this.#countAndPrefetch(request, email, context)
        throw error
      })
    })
  }

  /** The one place that records how a request ended. With `delivery: 'required'` a URL is returned once its event is written. */
  async #audited (request: FastifyRequest, context: RequestContext, getUrl: () => Promise<UrlResult>): Promise<Outcome> {
    const { audit } = this.#deps
    let url: UrlResult | undefined
    try {
      url = await getUrl()
      const written = audit.recordIssued(this.#auditEvent(request, context, { event: `url.${url.source}`, url }))
      if (written !== undefined) await written
      return { url: toEmbedUrl(url), limit: context.limit }
    } catch (thrown) {
      const error = readable(thrown)
      const event = failureEvent(error, context.app !== undefined)
      // has the id of a URL whose own event could not be confirmed, and which is therefore not returned
      if (event !== undefined) audit.record(this.#auditEvent(request, context, { event, url, code: codeOf(error), reason: isEmbedError(error) ? error.reason : undefined }))
      return { error, limit: context.limit ?? (isEmbedError(error) ? error.limit : undefined) }
    }
  }

  async #getUrl (request: FastifyRequest, lookup: UrlLookup, context: RequestContext): Promise<UrlResult> {
    const { limits, cache, audit } = this.#deps
    const { user, tooljet, userHash, app, replaces, prefetched } = await this.#admit(request, lookup, context)

    audit.assertWritable() // else the mint would be for a URL that cannot be returned
    const { lockTtlMs, timeoutMs } = tooljet
    const mint = { id: randomId(9), app: app.key } // it is counted once, even if the lock has to be acquired several times
    const url = await cache.get({ user: userHash, app, replaces, prefetched, lockTtlMs, mintTimeoutMs: timeoutMs }, async ({ checkLock, hasOther, heldMs, spelling, keepSpelling }) => {
      const spellings = new Spellings(user, mint, spelling, keepSpelling)
      await limits?.assertMayMint(userHash, spellings.mintId) // a user who is out of mints does not wait for a turn
      const purpose = replaces !== undefined ? 'replaces' : hasOther ? 'more' : 'first'
      return tooljet.mint({ spellings, user: userHash, app, purpose, ticket: lookup.ticket, maxPlaces: limits?.maxMints ?? DEFAULT_PLACES, heldMs, count: () => limits?.countMint(userHash, spellings.mintId), checkLock })
    })
    audit.assertWritable() // it may have changed during the mint
    return url
  }

  /** Checks user, limit, app and authorization. */
  async #admit (request: FastifyRequest, lookup: UrlLookup, context: RequestContext) {
    const { resolveUser, authorize, apps } = this.#deps

    const resolved = resolveUser(request)
    const user = resolved instanceof Promise ? await resolved : resolved
    const email = context.email = user.email
    const found = apps.find(lookup)
    const toPrefetch = authorize === undefined ? found : undefined // a URL read before `authorize` may be forgotten while it runs
    const { tooljet, userHash, prefetched } = await this.#countAndPrefetch(request, email, context, toPrefetch)
    if (lookup.email !== undefined && lookup.email !== email && normalizeEmail(lookup.email) !== email) throw embedError('TOOLJET_EMBED_EMAIL_MISMATCH', { reason: 'other_user' })

    const app = context.app = found ?? apps.resolve(lookup) // throws: `find` found none, and this tells why
    const replaces = parseUrlId(lookup.replaces)
    const isAuthorized = authorize === undefined || await authorize(request, { email, app: app.displayName }) === true
    if (!isAuthorized) throw embedError('TOOLJET_EMBED_APP_NOT_ALLOWED', { reason: 'not_authorized' })
    return { user, tooljet, userHash, app, replaces, prefetched }
  }

  /** Finds the request's ToolJet, counts the request against the user's limit there, and looks the URL up along the way. */
  async #countAndPrefetch (request: FastifyRequest, email: string, context: RequestContext, app?: App) {
    const { tooljets, fallbackUserHash, limits, cache } = this.#deps
    try {
      const tooljet = tooljets.forRequest(request)
      context.tooljet = tooljet instanceof Promise ? await tooljet : tooljet
    } catch (error) {
      context.limit = await limits?.countRequest(fallbackUserHash(email))
      throw error
    }
    const userHash = context.tooljet.userHash(email)
    const prefetched = app && cache.prefetch(userHash, app) // sent in one script call with the count
    context.limit = await limits?.countRequest(userHash)
    return { tooljet: context.tooljet, userHash, prefetched }
  }

  #auditEvent (request: FastifyRequest, { startedAt, email, tooljet, lookup, app }: RequestContext, { event, url, code, reason }: Pick<AuditEvent, 'event' | 'code' | 'reason'> & { url: UrlResult | undefined }): AuditEvent {
    const { apps, tooljets } = this.#deps
    return {
      event,
      code,
      urlId: url?.urlId,
      expiresAt: url?.expiresAt,
      reason,
      target: reason === 'other_user' ? normalizeEmail(lookup?.email ?? '') : undefined,
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

  #traced (request: FastifyRequest, context: RequestContext, work: () => Promise<Outcome>): Promise<Outcome> {
    if (!urlChannel.hasSubscribers) return work()
    const trace: TooljetEmbedUrlTrace = { instance: this.#deps.audit.health().instance, requestId: sanitize(requestIdOf(request)) }
    let outcome: Outcome = {}
    return traced(urlChannel, trace, async () => {
      outcome = await work()
      trace.app = context.app?.displayName
      if (outcome.url === undefined) throw outcome.error
      trace.source = outcome.url.source
      trace.urlId = outcome.url.urlId
    }).then(() => outcome, () => outcome)
  }
}

function toEmbedUrl ({ redirectUrl, urlId, source, expiresAt, secondsLeft }: UrlResult): TooljetEmbedUrl {
  return { redirectUrl, urlId, source, expiresAt, expiresIn: Math.max(0, Math.floor(secondsLeft)) }
}
