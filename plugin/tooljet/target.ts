import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { FastifyRequest } from 'fastify'
import { durationOf, milliseconds, optionError, shown, wrongOption } from '../config/option-checks.js'
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
   * How many mints the fleet may ask of this ToolJet. `'auto'`: as many as it grants, learnt from its 429s;
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
}

/** The ToolJet of a request's tenant; nothing: there is none, and the ask is refused with `TOOLJET_EMBED_TENANT_UNKNOWN`. */
export type TooljetOfRequest = (request: FastifyRequest) => TooljetTarget | null | undefined | Promise<TooljetTarget | null | undefined>

/** A target with every default filled in and every value checked. */
export type Target = Readonly<Required<Omit<TooljetTarget, 'mintLimit'>> & { mintLimit: MintLimit }>

const MINT_LIMIT = "'auto', false, or { max, timeWindow }"

export const targetSchema = Type.Object({
  url: Type.String({ takes: 'an http:// or https:// URL', secret: true }),
  apiToken: Type.RegExp(/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/, { takes: 'a string of printable ASCII characters, ToolJet\'s EXTERNAL_API_ACCESS_TOKEN', secret: true }),
  embedOrigins: Type.Optional(Type.Array(Type.String({ takes: 'an origin like https://tooljet.example.com' }), { minItems: 1, takes: 'a list of origins, at least one' })),
  timeoutMs: Type.Optional(milliseconds),
  checkAccess: Type.Optional(Type.Boolean({ takes: 'true or false' })),
  mintLimit: Type.Optional(Type.Union([
    Type.Literal('auto'),
    Type.Literal(false),
    Type.Object({ max: Type.Integer({ minimum: 1 }), timeWindow: Type.Union([Type.String(), Type.Number()]) }, { additionalProperties: false }),
  ], { takes: MINT_LIMIT })),
}, { additionalProperties: false, takes: 'an object with url and apiToken', secret: true })

/** The static option is checked with all others; this is what a function gave. */
const given = Type.Object({ tooljet: targetSchema })

/** @throws TOOLJET_EMBED_OPTIONS that names what is wrong, and no secret */
export function checkedTarget (tooljet: unknown): Target {
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
  }
}

function mintLimitOf (limit: NonNullable<TooljetTarget['mintLimit']>): MintLimit {
  if (typeof limit !== 'object') return limit
  const { max, timeWindow } = limit
  return { max, timeWindow: durationOf('tooljet.mintLimit.timeWindow', timeWindow) }
}

function baseUrl (value: string): string {
  const takes = 'an http:// or https:// URL without credentials, query and fragment'
  const url = URL.canParse(value) ? new URL(value) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    throw optionError('tooljet.url', takes, 'something else (not shown)')
  }
  if (url.search !== '' || url.hash !== '') throw optionError('tooljet.url', takes, 'a URL with a query or fragment')
  return url.href.replace(/\/+$/, '')
}

function originOf (value: string, i: number): string {
  const url = URL.canParse(value) ? new URL(value) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || `${url.origin}/` !== url.href) {
    throw optionError(`tooljet.embedOrigins.${i}`, 'an origin like https://tooljet.example.com', shown(value, url === undefined || url.username !== '' || url.password !== ''))
  }
  return url.origin
}
