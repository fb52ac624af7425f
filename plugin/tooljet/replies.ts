import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { embedError, type EmbedError } from '../errors.js'

/** A reply of ToolJet; its body is not longer than the client's bound. */
export interface Reply {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: string
}

const MintReply = Type.Object({ redirectUrl: Type.String({ minLength: 1, maxLength: 4096 }) })

const Refused = Type.Object({ statusCode: Type.Integer(), message: Type.Union([Type.String(), Type.Array(Type.String())]) })
/**
 * ToolJet's own form, and that of its older versions. Gateways have JSON of their own: Azure's has neither `error` nor
 * `path`, Spring's a `status`, Kong's and AWS's a message alone.
 */
const ToolJetError = Type.Union([
  Type.Intersect([Refused, Type.Object({ timestamp: Type.String(), path: Type.String() })]),
  Type.Intersect([Refused, Type.Object({ error: Type.String() })]),
])

/** Without `Retry-After` ToolJet's 429 pauses for its documented window. */
const DEFAULT_PAUSE_SECONDS = 60
/** A longer pause is taken for a mistake: one call an hour does no harm. */
const MAX_PAUSE_SECONDS = 3600

/** Statuses of a transient failure: of a server that did not accept the request, and of ToolJet's database. */
const TRANSIENT = new Set([408, 421, 422, 425])

/** Messages of ToolJet's 403s that refuse this server, with their remedy; any other 403 refuses the user. */
const REFUSES_SERVER: ReadonlyMap<string, string> = new Map([
  ['unauthorized', 'tooljet.apiToken is not ToolJet\'s EXTERNAL_API_ACCESS_TOKEN'],
  ['external api is disabled', 'set ENABLE_EXTERNAL_API=true at ToolJet'],
  ['you do not have access to this resource', 'ToolJet\'s licence does not include the external API'],
  ['forbidden resource', 'this is ToolJet\'s community edition, it cannot mint'],
])

/** A pause that ToolJet asks for. */
export interface PauseAsked {
  seconds: number
  /** Whether the reply has a `Retry-After`. */
  isGiven: boolean
  /** Whether too many calls are the reason. */
  isLimit: boolean
}

/** @returns `undefined`: it does not ask for a pause */
export function pauseAsked ({ status, headers }: Reply): PauseAsked | undefined {
  if (status !== 429 && !(status === 503 && headers['retry-after'] !== undefined)) return undefined
  const given = retryAfterSeconds(headers)
  const seconds = given === undefined ? DEFAULT_PAUSE_SECONDS : Math.min(Math.max(given, 1), MAX_PAUSE_SECONDS)
  return { seconds, isGiven: given !== undefined && given >= 1, isLimit: status === 429 }
}

/** `Retry-After` as seconds or as a date; a date counts from the reply's own `Date`, not from this machine's. */
function retryAfterSeconds (headers: Reply['headers']): number | undefined {
  const value = String(headers['retry-after'] ?? '').trim()
  if (/^\d+$/.test(value)) return Number(value)
  const until = /^[a-z]{3}/i.test(value) ? Date.parse(value) : NaN // Date.parse takes "3, 4" and "1.5" for dates, too
  if (Number.isNaN(until)) return undefined
  const sent = Date.parse(String(headers['date'] ?? ''))
  return Math.ceil((until - (Number.isNaN(sent) ? Date.now() : sent)) / 1000)
}

/**
 * The `redirectUrl` of a reply to a mint, as ToolJet wrote it.
 * @param origins that the URL may have
 * @throws the coded error that the reply stands for
 */
export function readReply (reply: Reply, origins: readonly string[]): string {
  if (reply.status === 200 || reply.status === 201) return usableUrl(reply.body, origins)
  throw toEmbedError(reply)
}

// White space, control characters, quotes, brackets: URL parsers accept them, but a page or a header may break.
// eslint-disable-next-line no-control-regex
const NOT_IN_A_URL = /[\u0000-\u0020\u007f"<>\\^`{|}]/

function usableUrl (body: string, origins: readonly string[]): string {
  const json = parseJson(body)
  if (!Value.Check(MintReply, json)) throw badReply('its body is not the documented JSON')
  const url = URL.canParse(json.redirectUrl) ? new URL(json.redirectUrl) : undefined
  if (url === undefined) throw badReply('its redirectUrl is not an absolute URL')
  if (!origins.includes(url.origin)) throw badReply(`its redirectUrl has the origin ${url.origin}, allowed by tooljet.embedOrigins are ${origins.join(', ')}`)
  if (url.username !== '' || url.password !== '') throw badReply('its redirectUrl carries credentials')
  if (NOT_IN_A_URL.test(json.redirectUrl)) throw badReply('its redirectUrl has characters that no URL has')
  return json.redirectUrl
}

/** Only a reply in ToolJet's own form is a denial of a user or an app: any other refusal is of this server. */
function toEmbedError (reply: Reply): EmbedError {
  const { status } = reply
  const pause = pauseAsked(reply)
  if (pause !== undefined) return embedError('TOOLJET_EMBED_BUSY', { retryAfter: pause.seconds })
  if (status >= 500 || TRANSIENT.has(status)) return embedError('TOOLJET_EMBED_UNAVAILABLE', { detail: `it answered with status ${status}` })
  if (status >= 300 && status < 400) return badReply(`it redirects (status ${status}), and redirects are not followed: is tooljet.url right?`)
  if (status === 407) return misconfigured('the proxy on the way to ToolJet asks for credentials (status 407)')
  if (status === 401) return misconfigured('something in front of ToolJet asks for other credentials (status 401)')
  if (status === 451) return misconfigured('ToolJet\'s plan does not include the external API')
  const message = toolJetMessage(reply)
  switch (status) {
    case 400:
      return badRequest(message)
    case 403: {
      if (message === undefined) return misconfigured('something in front of ToolJet refuses the call (status 403 without ToolJet\'s JSON)')
      const remedy = REFUSES_SERVER.get(message.trim().toLowerCase())
      return remedy === undefined ? embedError('TOOLJET_EMBED_ACCESS_DENIED') : misconfigured(remedy)
    }
    case 404:
      return notFound(message)
    default:
      return badReply(`it answered with status ${status}`)
  }
}

function badRequest (message: string | undefined): EmbedError {
  if (message === undefined) return badReply('something in front of ToolJet does not accept the request (status 400 without ToolJet\'s JSON)')
  if (/\bappId must be a uuid/i.test(message)) return embedError('TOOLJET_EMBED_BAD_REQUEST', { detail: 'ToolJet expects another form of app id' })
  if (/invalid app/i.test(message)) return embedError('TOOLJET_EMBED_APP_NOT_FOUND')
  if (/\bemail must be\b|\bemail must be provided\b/i.test(message)) return embedError('TOOLJET_EMBED_BAD_REQUEST', { detail: 'ToolJet does not accept the user\'s e-mail as an address' })
  return badReply('it does not accept the request')
}

function notFound (message = ''): EmbedError {
  // of a missing route, whose path has "users" in it
  const isAboutRoute = /^(?:cannot|route) post\b/i.test(message)
  if (!isAboutRoute && /\buser\b|@/i.test(message)) return embedError('TOOLJET_EMBED_USER_NOT_FOUND')
  if (!isAboutRoute && /\bapp(?:id|slug)?\b/i.test(message)) return embedError('TOOLJET_EMBED_APP_NOT_FOUND')
  return misconfigured('there is no external API at tooljet.url: the address or its sub-path is wrong, or it is the community edition')
}

/** @returns nothing when it was not ToolJet that answered */
function toolJetMessage ({ status, body }: Reply): string | undefined {
  const json = parseJson(body)
  if (!Value.Check(ToolJetError, json) || json.statusCode !== status) return undefined
  const message = Array.isArray(json.message) ? json.message.join('; ') : json.message
  // NestJS leaves `error` out when it would repeat the message: a server with both the same is another one
  return 'error' in json && !('path' in json) && json.error === message ? undefined : message
}

function parseJson (text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function misconfigured (remedy: string): EmbedError {
  return embedError('TOOLJET_EMBED_MISCONFIGURED', { remedy })
}

function badReply (remedy: string): EmbedError {
  return embedError('TOOLJET_EMBED_BAD_REPLY', { remedy })
}
