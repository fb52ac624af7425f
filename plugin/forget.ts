import type { AppAsk, Apps } from './access/apps.js'
import { parseEmail } from './access/identity.js'
import type { Audit } from './audit/audit.js'
import type { UrlCache } from './cache/url-cache.js'
import { codeOf, embedError } from './errors.js'
import type { TooljetTarget } from './tooljet/target.js'
import type { ToolJetRegistry } from './tooljet/registry.js'

/** The argument of `fastify.tooljetEmbed.forget()`. */
export type TooljetEmbedForget = AppAsk & {
  /** Of the user. */
  email: string
  /** Where option `tooljet` is a function, and only there: the user's ToolJet, as the function returns it. */
  tooljet?: TooljetTarget
  /** Who requests it, for the audit log: at most 256 characters are kept. */
  by?: string
  /** Why, for the audit log: at most 256 characters are kept. */
  reason?: string
}

interface ForgetDeps {
  apps: Apps
  cache: UrlCache
  tooljets: ToolJetRegistry
  audit: Audit
}

/**
 * Makes the fleet drop a user's cached URLs, of one app or of all.
 * @returns how many were dropped
 * @throws TOOLJET_EMBED_REDIS_DOWN, TOOLJET_EMBED_BAD_REQUEST, TOOLJET_EMBED_APP_NOT_ALLOWED
 */
export async function forget (whose: TooljetEmbedForget, { apps, cache, tooljets, audit }: ForgetDeps): Promise<number> {
  const { email: given, tooljet: target, by, reason, ...lookup } = whose ?? {}
  const startedAt = performance.now()
  const email = parseEmail(given)
  if (email === undefined) throw badRequest('the "email" of a user')
  for (const [name, text] of Object.entries({ by, reason })) {
    if (text !== undefined && typeof text !== 'string') throw badRequest(`a text as "${name}"`)
  }
  const app = Object.values(lookup).some((name) => name !== undefined) ? apps.resolve(lookup) : undefined
  const tooljet = tooljets.fromTarget(target)
  const event = { event: 'url.forgotten', email, app: app?.displayName, tooljet: tooljets.displayNameOf(tooljet), by, reason } as const
  try {
    const dropped = await cache.forget(tooljet.userHash(email), app?.key ?? '*')
    audit.record({ ...event, durationMs: performance.now() - startedAt })
    return dropped
  } catch (error) {
    audit.record({ ...event, code: codeOf(error), durationMs: performance.now() - startedAt })
    throw error
  }
}

function badRequest (detail: string) {
  return embedError('TOOLJET_EMBED_BAD_REQUEST', { detail: `forget expects ${detail}` })
}
