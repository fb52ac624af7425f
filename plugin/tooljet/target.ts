import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { FastifyRequest } from 'fastify'
import type { Dispatcher } from 'undici'
import { durationOf, milliseconds, optionError, describeValue, wrongOption } from '../config/option-checks.js'
import type { MintLimit } from './mint-limit.js'

/** One ToolJet server. */
export interface TooljetTarget {
  /** Base URL, http or https; a sub-path is kept. */
  url: string
  /** ToolJet's `EXTERNAL_API_ACCESS_TOKEN`, sent verbatim as `Authorization: Basic <apiToken>`. */
  apiToken: string
  /** Origins that a `redirectUrl` may have; any other is refused. @default [origin of url] */
  embedOrigins?: string[]
  /** Milliseconds for one whole mint call, connect and retries included. @default 10000 */
  timeoutMs?: number
  /**
   * How many mints the fleet may request from this ToolJet. `'auto'`: as many as it grants, learnt from its 429s;
   * `{ max, timeWindow }`: at most `max` calls in any window of that length (milliseconds, or words like '1 minute');
   * `false`: any number. @default 'auto'
   */
  mintLimit?: 'auto' | false | { max: number, timeWindow: number | string }
  /**
   * After a mint, one session call proves that the user may open the app: some ToolJets check that only there. Its 401 or 403
   * is `TOOLJET_EMBED_ACCESS_DENIED`; whatever else comes of it, within `timeoutMs` of its own, leaves the URL as it is. It costs
   * one more session at ToolJet for each mint. Not for a ToolJet whose new tokens are not valid while an older one lives. @default false
   */
  checkAccess?: boolean
  /**
   * Through which ToolJet is called: an undici `Dispatcher` (a proxy, a client certificate, a mock); never closed by the plugin.
   * @default a pool of its own, which goes through the proxy of HTTPS_PROXY (for https) or HTTP_PROXY unless NO_PROXY has the host; loopback never does
   */
  dispatcher?: Dispatcher
  /** Further headers of every call, as an access proxy wants them. Their values are secrets. @default none */
  headers?: Record<string, string>
}

/** The ToolJet of a request's tenant; without one the request fails with `TOOLJET_EMBED_TENANT_UNKNOWN`. */
export type TooljetOfRequest = (request: FastifyRequest) => TooljetTarget | null | undefined | Promise<TooljetTarget | null | undefined>

/** A target with every default filled in and every value checked. */
export type Target = Readonly<Required<Omit<TooljetTarget, 'mintLimit' | 'dispatcher'>> & { mintLimit: MintLimit, dispatcher: Dispatcher | undefined }>

const MINT_LIMIT = "'auto', false, or { max, timeWindow }"

export const targetSchema = Type.Object({
  url: Type.String({ expected: 'an http:// or https:// URL', secret: true }),
  apiToken: Type.RegExp(/^(?!basic )[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/i, { expected: 'a string of printable ASCII characters, ToolJet\'s EXTERNAL_API_ACCESS_TOKEN, without "Basic " before it', secret: true }),
  embedOrigins: Type.Optional(Type.Array(Type.String({ expected: 'an origin like https://tooljet.example.com' }), { minItems: 1, expected: 'a list of origins, at least one' })),
  timeoutMs: Type.Optional(milliseconds),
  checkAccess: Type.Optional(Type.Boolean({ expected: 'true or false' })),
  dispatcher: Type.Optional(Type.Unsafe<Dispatcher>(Type.Any())), // checked below: what it has is inherited
  headers: Type.Optional(Type.Record(Type.String(), Type.String({ expected: 'a string', secret: true }), { expected: 'an object of names and strings', secret: true })),
  mintLimit: Type.Optional(Type.Union([
    Type.Literal('auto'),
    Type.Literal(false),
    Type.Object({ max: Type.Integer({ minimum: 1 }), timeWindow: Type.Union([Type.String(), Type.Number()]) }, { additionalProperties: false }),
  ], { expected: MINT_LIMIT })),
}, { additionalProperties: false, expected: 'an object with url and apiToken', secret: true })

/** For a target that a function returned: the static option is checked with all others. */
const given = Type.Object({ tooljet: targetSchema })

/** @throws TOOLJET_EMBED_OPTIONS that names what is wrong, and no secret */
export function parseTarget (tooljet: unknown): Target {
  const error = Value.Errors(given, { tooljet }).First()
  if (error !== undefined) throw wrongOption(error)
  return resolveTarget(tooljet as TooljetTarget)
}

/** @throws TOOLJET_EMBED_OPTIONS */
export function resolveTarget (target: TooljetTarget): Target {
  const url = baseUrl(target.url)
  return {
    url,
    apiToken: target.apiToken,
    embedOrigins: target.embedOrigins?.map(originOf) ?? [new URL(url).origin],
    timeoutMs: target.timeoutMs ?? 10_000,
    mintLimit: mintLimitOf(target.mintLimit ?? 'auto'),
    checkAccess: target.checkAccess ?? false,
    dispatcher: dispatcherOf(target.dispatcher),
    headers: headersOf(target.headers ?? {}),
  }
}

function mintLimitOf (limit: NonNullable<TooljetTarget['mintLimit']>): MintLimit {
  if (typeof limit !== 'object') return limit
  const { max, timeWindow } = limit
  return { max, timeWindow: durationOf('tooljet.mintLimit.timeWindow', timeWindow) }
}

function dispatcherOf (dispatcher: Dispatcher | undefined): Dispatcher | undefined {
  if (dispatcher === undefined || typeof (dispatcher as Partial<Dispatcher> | null)?.request === 'function') return dispatcher
  throw optionError('tooljet.dispatcher', 'an undici Dispatcher', describeValue(dispatcher, true))
}

/** Headers that the plugin sets, and those of the connection. */
const OWN_HEADERS = ['authorization', 'content-type', 'content-length', 'accept', 'accept-encoding', 'connection', 'transfer-encoding', 'expect', 'keep-alive', 'upgrade']

function headersOf (headers: Record<string, string>): Record<string, string> {
  for (const [name, value] of Object.entries(headers)) {
    if (!/^[\w!#$%&'*+.^`|~-]+$/.test(name) || OWN_HEADERS.includes(name.toLowerCase())) throw optionError('tooljet.headers', `names of headers other than ${OWN_HEADERS.join(', ')}`, `an object with ${describeValue(name, false)}`)
    if (!/^[\x20-\x7e]+$/.test(value)) throw optionError(`tooljet.headers.${name}`, 'a string of printable ASCII characters', 'something else (not shown)')
  }
  return { ...headers }
}

function baseUrl (value: string): string {
  const expected = 'an http:// or https:// URL without credentials, query and fragment'
  if (value === '') throw optionError('tooljet.url', expected, 'empty')
  if (!/^https?:\/\//i.test(value)) throw optionError('tooljet.url', expected, 'something that does not begin with http:// or https:// (not shown)')
  const url = URL.canParse(value) ? new URL(value) : undefined
  if (url === undefined || url.username !== '' || url.password !== '') {
    throw optionError('tooljet.url', expected, 'something else (not shown)')
  }
  if (url.search !== '' || url.hash !== '') throw optionError('tooljet.url', expected, 'a URL with a query or fragment')
  return url.href.replace(/\/+$/, '')
}

function originOf (value: string, i: number): string {
  const url = URL.canParse(value) ? new URL(value) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || `${url.origin}/` !== url.href) {
    throw optionError(`tooljet.embedOrigins.${i}`, 'an origin like https://tooljet.example.com', describeValue(value, url === undefined || url.username !== '' || url.password !== ''))
  }
  return url.origin
}
