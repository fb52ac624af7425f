import type { FastifyRequest } from 'fastify'
import { embedError } from '../errors.js'
import type { Log } from '../observability/log.js'

/** Returns the e-mail of the signed-in user, from what the server knows. */
export type Identity = (request: FastifyRequest) => string | Promise<string>

/** The default: the `email` claim that `@fastify/jwt` verified. */
export const emailOfJwt: Identity = (request) => (request as { user?: { email?: string } | null }).user?.email ?? ''

/** A user, as `identity` gives one. */
export interface User {
  /** The e-mail, normalized: stands for the user everywhere but in calls to ToolJet. */
  email: string
  /** The e-mail as it was given, but for the white space around it. */
  spelling: string
}

/**
 * One form for one person: ASCII white space around it is trimmed, ASCII letters are lowered, and everything else is
 * kept as it is. More than that would make one person of two: what `toLowerCase()` and `trim()` of JavaScript do besides
 * depends on the version of Unicode, and other letters fold into each other. `queries/arguments.lua` has the same rule.
 */
export function normalizeEmail (email: string): string {
  return lowered(trimmed(email))
}

function lowered (email: string): string {
  return UPPER.test(email) ? email.replace(/[A-Z]+/g, (letters) => letters.toLowerCase()) : email
}

function trimmed (email: string): string {
  let start = 0
  let end = email.length
  // no regular expression: it would take quadratic time over white space that is inside
  while (start < end && isAsciiSpace(email.charCodeAt(start))) start++
  while (start < end && isAsciiSpace(email.charCodeAt(end - 1))) end--
  return email.slice(start, end)
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
 * Returns a function for the signed-in user. It throws `TOOLJET_EMBED_UNAUTHENTICATED` when `identity`
 * returns nobody, or no e-mail address.
 */
export function userResolver (identity: Identity, log: Log): (request: FastifyRequest) => User | Promise<User> {
  let isLogged = false
  const userOf = (given: unknown): User => {
    const user = parseUser(given)
    if (user !== undefined) return user
    if (!isLogged) log.warn('tooljet-embed: option "identity" gave no e-mail address, so the answer is 401; its default is request.user.email')
    isLogged = true
    const isNone = typeof given !== 'string' || normalizeEmail(given) === ''
    throw embedError('TOOLJET_EMBED_UNAUTHENTICATED', isNone ? {} : { detail: 'what "identity" gave is not an e-mail address' })
  }
  return (request) => {
    const given: unknown = identity(request)
    return typeof (given as Promise<unknown> | undefined)?.then === 'function' ? Promise.resolve(given).then(userOf) : userOf(given)
  }
}

/** @returns the user of an e-mail; nothing when it cannot be one */
export function parseUser (given: unknown): User | undefined {
  if (typeof given !== 'string') return undefined
  const spelling = trimmed(given)
  // all lone surrogates are the same in UTF-8
  return spelling.length <= MAX_EMAIL_LENGTH && EMAIL.test(spelling) && spelling.isWellFormed() ? { email: lowered(spelling), spelling } : undefined
}

/** @returns the e-mail, normalized; nothing when it cannot be one */
export function parseEmail (given: unknown): string | undefined {
  return parseUser(given)?.email
}
