import type { AppAsk, AppLookup } from './access/apps.js'
import { embedError } from './errors.js'

/** The argument of `request.tooljetEmbedUrl()`; not needed where `apps` has one entry. */
export type TooljetEmbedAsk = AppAsk & {
  /** The `urlId` of a URL that is no longer valid: it is replaced. */
  replaces?: string | undefined
  /** From the previous answer `TOOLJET_EMBED_BUSY`: it keeps the place in the queue. */
  ticket?: string | undefined
}

/** The body of the route, or the argument of a host without types. */
export interface UrlLookup extends AppLookup {
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

const URL_ID = /^[A-Za-z0-9_-]{1,64}$/

/** @throws TOOLJET_EMBED_BAD_REQUEST for what is no `urlId` */
export function parseUrlId (replaces: unknown): string | undefined {
  if (replaces === undefined || (typeof replaces === 'string' && URL_ID.test(replaces))) return replaces
  throw embedError('TOOLJET_EMBED_BAD_REQUEST', { detail: '"replaces" must be the urlId of an earlier answer' })
}
