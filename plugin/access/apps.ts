import { embedError } from '../errors.js'
import { TOKEN } from '../observability/sanitize.js'
import type { AppAlias } from './register.js'

/** How ToolJet knows an app: by id or by slug, never by both. */
export type AppName =
  | { /** The app's UUID. */ appId: string, appSlug?: undefined }
  | { /** The app's slug. */ appSlug: string, appId?: undefined }

/** Names the app: by one of id, slug and alias; by nothing where `apps` has one entry. */
export type AppAsk =
  | AppName & { app?: undefined }
  | { /** Alias of the app in `apps`. */ app?: AppAlias | undefined, appId?: undefined, appSlug?: undefined }

/** The same as received from a page, or from a host without types. */
export interface AppLookup {
  appId?: string | undefined
  appSlug?: string | undefined
  app?: string | undefined
}

/** A resolved app, with its lifetimes. */
export interface App {
  /** For people and the audit log: the alias, else the id or slug. */
  readonly displayName: string
  /** For keys: `id:…` or `slug:…`. */
  readonly key: string
  readonly name: AppName
  /** Seconds. */
  readonly patExpiry: number
  /** Minutes. */
  readonly sessionExpiry: number
  /** Seconds. */
  readonly minRemaining: number
}

export type Lifetimes = Pick<App, 'patExpiry' | 'sessionExpiry' | 'minRemaining'>

export const APP_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i
// a slug must not look like a token, which would be written to Redis and to the audit log
export const APP_SLUG = new RegExp(`^(?!pat_|.*(?:${TOKEN.source}))[A-Za-z0-9_-]{1,128}$`)

export function makeApp (name: AppName, lifetimes: Lifetimes, alias?: string): App {
  const { patExpiry, sessionExpiry, minRemaining } = lifetimes
  const exact = name.appId === undefined ? name : { appId: name.appId.toLowerCase() }
  const [kind, text] = exact.appId === undefined ? ['slug', exact.appSlug] : ['id', exact.appId]
  return { displayName: alias ?? text, key: `${kind}:${text}`, name: exact, patExpiry, sessionExpiry, minRemaining }
}

/** Resolves a lookup to an app: through the allow-list where there is one. */
export class Apps {
  readonly #allowed: ReadonlyMap<string, App> | undefined
  readonly #lifetimes: Lifetimes

  /** @param allowed apps by alias; `undefined`: any app */
  constructor (allowed: ReadonlyMap<string, App> | undefined, lifetimes: Lifetimes) {
    this.#allowed = allowed
    this.#lifetimes = lifetimes
  }

  /**
   * @throws TOOLJET_EMBED_BAD_REQUEST when no app is named where one is needed, more than one, or a malformed one
   * @throws TOOLJET_EMBED_APP_NOT_ALLOWED when the app is not in the allow-list
   */
  resolve (lookup: AppLookup): App {
    const given = (['appId', 'appSlug', 'app'] as const).filter((by) => lookup[by] !== undefined)
    if (given.length > 1) throw badRequest(`name it once, by one of ${given.join(' and ')}`)
    if (lookup.app !== undefined) return this.#byAlias(lookup.app)
    if (given.length === 0) return this.#onlyOne()

    const app = makeApp(parseAppName(lookup), this.#lifetimes)
    if (this.#allowed === undefined) return app
    for (const allowed of this.#allowed.values()) {
      if (allowed.key === app.key) return allowed
    }
    throw embedError('TOOLJET_EMBED_APP_NOT_ALLOWED', { reason: 'not_listed' })
  }

  /** @returns nothing for a lookup that `resolve` refuses */
  find (lookup: AppLookup): App | undefined {
    try {
      return this.resolve(lookup)
    } catch {
      return undefined
    }
  }

  /** The app's name for the audit log, also for a lookup that is refused. */
  displayNameOf (lookup: AppLookup): string | undefined {
    const given: unknown = lookup.app ?? lookup.appId ?? lookup.appSlug
    return this.find(lookup)?.displayName ?? (typeof given === 'string' ? given : undefined)
  }

  #byAlias (alias: unknown): App {
    if (typeof alias !== 'string') throw badRequest('"app" must be an alias, a string')
    if (this.#allowed === undefined) throw badRequest('there are no aliases here, name it by appId or appSlug')
    const app = this.#allowed.get(alias)
    if (app === undefined) throw embedError('TOOLJET_EMBED_APP_NOT_ALLOWED', { reason: 'unknown_alias' })
    return app
  }

  #onlyOne (): App {
    const [first, second] = this.#allowed?.values() ?? []
    if (first !== undefined && second === undefined) return first
    throw badRequest(`name it by ${this.#allowed === undefined ? 'appId or appSlug' : 'app, appId or appSlug'}`)
  }
}

function parseAppName ({ appId, appSlug }: AppLookup): AppName {
  if (appId !== undefined) {
    if (typeof appId === 'string' && APP_ID.test(appId)) return { appId }
    throw badRequest('"appId" must be a UUID')
  }
  if (typeof appSlug === 'string' && APP_SLUG.test(appSlug)) return { appSlug }
  throw badRequest('"appSlug" must be 1 to 128 letters, digits, "-" and "_"')
}

function badRequest (detail: string) {
  return embedError('TOOLJET_EMBED_BAD_REQUEST', { detail })
}

/**
 * The names of an app in its embed URL, in the form of `key`: so an app that was requested by its slug is also known by its
 * id, and the other way round.
 */
export function namesIn (redirectUrl: string): string[] {
  const { pathname, searchParams } = new URL(redirectUrl)
  const id = /\/embed-apps\/([^/]+)\/?$/.exec(pathname)?.[1] ?? ''
  const slug = searchParams.get('appSlug') ?? ''
  return [...(APP_ID.test(id) ? [`id:${id.toLowerCase()}`] : []), ...(APP_SLUG.test(slug) ? [`slug:${slug}`] : [])]
}
