import type { FastifyRequest } from 'fastify'
import { embedError } from '../errors.js'
import type { Log } from '../observability/log.js'

/** Returns the e-mail of the signed-in user, from what the server knows. */
export type Identity = (request: FastifyRequest) => string | Promise<string>

/** The default: the `email` claim that `@fastify/jwt` verified. */
export const emailOfJwt: Identity = (request) => (request as { user?: { email?: string } | null }).user?.email ?? ''

/**
 * One spelling for one person: ASCII white space around it is trimmed, ASCII letters are lowered, and everything else is
 * kept as it is. More than that would make one person of two: what `toLowerCase()` and `trim()` of JavaScript do besides
 * depends on the version of Unicode, and other letters fold into each other. `queries/arguments.lua` has the same rule.
 */
export function normalizeEmail (email: string): string {
  let start = 0
  let end = email.length
  // no regular expression: it would take quadratic time over white space that is inside
  while (start < end && isAsciiSpace(email.charCodeAt(start))) start++
  while (start < end && isAsciiSpace(email.charCodeAt(end - 1))) end--
  const trimmed = email.slice(start, end)
  return UPPER.test(trimmed) ? trimmed.replace(/[A-Z]+/g, (letters) => letters.toLowerCase()) : trimmed
}

const UPPER = /[A-Z]/

/** Space, and what lies from tab to carriage return. */
function isAsciiSpace (code: number): boolean {
  return code === 0x20 || (code >= 0x09 && code <= 0x0d)
}

// Not a validator of addresses: it keeps out what cannot be one (white space of any kind inside, a no-break space before
// it too), and what could not be written to a key or a log line.
const EMAIL = /^[^\s\p{Cc}@]+@[^\s\p{Cc}@]+$/u
const MAX_EMAIL_LENGTH = 254

/**
 * Returns a function for the signed-in user's e-mail, normalized. It throws `TOOLJET_EMBED_UNAUTHENTICATED` when `identity`
 * returns nobody, or no e-mail address.
 */
export function userResolver (identity: Identity, log: Log): (request: FastifyRequest) => string | Promise<string> {
  let isLogged = false
  const emailOf = (given: unknown): string => {
    const email = parseEmail(given)
    if (email !== undefined) return email
    if (!isLogged) log.warn('tooljet-embed: option "identity" gave no e-mail address, so the answer is 401; its default is request.user.email')
    isLogged = true
    const isNone = typeof given !== 'string' || normalizeEmail(given) === ''
    throw embedError('TOOLJET_EMBED_UNAUTHENTICATED', isNone ? {} : { detail: 'what "identity" gave is not an e-mail address' })
  }
  return (request) => {
    const given: unknown = identity(request)
    return typeof (given as Promise<unknown> | undefined)?.then === 'function' ? Promise.resolve(given).then(emailOf) : emailOf(given)
  }
}

/** @returns the e-mail, normalized; nothing when it cannot be one */
export function parseEmail (given: unknown): string | undefined {
  if (typeof given !== 'string') return undefined
  const email = normalizeEmail(given)
  // all lone surrogates are the same in UTF-8
  return email.length <= MAX_EMAIL_LENGTH && EMAIL.test(email) && email.isWellFormed() ? email : undefined
}
