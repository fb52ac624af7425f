import type { FastifyRequest } from 'fastify'
import { embedError } from '../errors.js'

/** Tells who is signed in, from the server's side only. */
export type Identity = (request: FastifyRequest) => string | Promise<string>

/** The default: the `email` claim that `@fastify/jwt` verified. */
export const emailOfJwt: Identity = (request) => (request as { user?: { email?: string } | null }).user?.email ?? ''

// Kelvin sign and dotted capital I turn into ASCII letters when lowered: two different people must not become one.
const FOLDS_INTO_ASCII = /[\u212A\u0130]/

/** One spelling for one person: trimmed, in lower case. */
export function normalizeEmail (email: string): string {
  const trimmed = email.trim()
  return FOLDS_INTO_ASCII.test(trimmed) ? trimmed : trimmed.toLowerCase()
}

// Not a validator of addresses: it keeps out what cannot be one, and what could not be written to a key or a log line.
// eslint-disable-next-line no-control-regex
const EMAIL = /^[^\s\u0000-\u001f\u007f@]+@[^\s\u0000-\u001f\u007f@]+$/
const MAX_EMAIL_LENGTH = 254
// All of them look alike in UTF-8.
const LONE_SURROGATE = /\p{Surrogate}/u

/**
 * Who asks.
 * @returns the e-mail, normalized
 * @throws TOOLJET_EMBED_UNAUTHENTICATED when the server's side names nobody
 */
export async function whoAsks (identity: Identity, request: FastifyRequest): Promise<string> {
  const given: unknown = await identity(request)
  if (typeof given !== 'string' || given.trim() === '') {
    throw embedError('TOOLJET_EMBED_UNAUTHENTICATED')
  }
  const email = checkedEmail(given)
  if (email === undefined) throw embedError('TOOLJET_EMBED_UNAUTHENTICATED', { detail: 'what "identity" gave is not an e-mail address' })
  return email
}

/** @returns the e-mail, normalized; nothing when it cannot be one */
export function checkedEmail (given: unknown): string | undefined {
  if (typeof given !== 'string') return undefined
  const email = normalizeEmail(given)
  return email.length <= MAX_EMAIL_LENGTH && EMAIL.test(email) && !LONE_SURROGATE.test(email) ? email : undefined
}
