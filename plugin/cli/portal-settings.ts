import { parse as parseDuration } from '@lukeed/ms'
import { resolveOptions, type TooljetEmbedOptions } from '../config/options.js'
import { isEmbedError } from '../errors.js'
import { REDIS_URL, redisUrlProblem } from '../redis/url.js'
import { proxyOf } from '../tooljet/pools.js'
import type { Target, TooljetTarget } from '../tooljet/target.js'
import { UsageError } from './errors.js'
import { wholeNumber, type ParsedOptions } from './options.js'
import { secretsOf } from './secrets.js'

/** Arguments and variables by the plugin option that they set. */
const NAMES: Record<string, string> = {
  'tooljet.url': 'TOOLJET_URL',
  'tooljet.apiToken': 'TOOLJET_API_TOKEN',
  'tooljet.embedOrigins': 'TOOLJET_EMBED_ORIGINS',
  redis: 'REDIS_URL',
  encryptionKey: 'ENCRYPTION_KEY (or --key-file)',
  keyPrefix: '--key-prefix',
  'audit.stream': '--stream',
  patExpiry: '--pat-expiry',
  sessionExpiry: '--session-expiry',
  minRemaining: '--min-remaining',
  'tooljet.mintLimit.timeWindow': '--mint-limit',
}

/** The portal's options, from environment and arguments. */
export interface PortalSettings {
  /** Options for the plugin, with all that key names and ciphertexts depend on. */
  options: TooljetEmbedOptions & { redis: string }
  /** The same with every default filled in. */
  resolved: ReturnType<typeof resolveOptions>
  /** Seconds. */
  validFor: number | undefined
}

/** @throws UsageError for what is missing or wrong; no secret is in it */
export function portalSettingsOf (given: ParsedOptions, env: NodeJS.ProcessEnv): PortalSettings {
  const redis = env['REDIS_URL'] ?? ''
  if (redis === '') throw new UsageError(`REDIS_URL is missing, expected ${REDIS_URL}`)
  const problem = redisUrlProblem(redis)
  if (problem !== undefined) throw new UsageError(`REDIS_URL is something else (not shown): it ${problem}, expected ${REDIS_URL}`)
  const embedOrigins = (env['TOOLJET_EMBED_ORIGINS'] ?? '').split(',').map((origin) => origin.trim()).filter((origin) => origin !== '')
  const secrets = secretsOf(given, { TOOLJET_EMBED_ENCRYPTION_KEY: env['ENCRYPTION_KEY'] || env['TOOLJET_EMBED_ENCRYPTION_KEY'] })
  const options: PortalSettings['options'] = {
    tooljet: {
      url: env['TOOLJET_URL'] || undefined!,
      apiToken: env['TOOLJET_API_TOKEN'] || undefined!,
      ...(embedOrigins.length > 0 && { embedOrigins }),
      mintLimit: mintLimitOf(given['mint-limit']),
      checkAccess: given['check-access'] !== undefined,
    },
    redis,
    ...(secrets.length > 0 && { encryptionKey: secrets }),
    ...defined({
      keyPrefix: given['key-prefix'],
      patExpiry: wholeNumber(given, 'pat-expiry', 1),
      sessionExpiry: wholeNumber(given, 'session-expiry', 1),
      minRemaining: wholeNumber(given, 'min-remaining', 0),
    }),
    // the portal trims the log, by its own retention
    audit: { ...defined({ stream: given.stream }), ...(given.pseudonyms !== undefined && { identity: 'hmac' }), retentionDays: 0, maxEntries: 0, functions: false },
    onRedisDown: 'fail', // URLs that are minted without Redis are of no use to the portal
    rateLimit: false,
    route: false,
    client: false,
  }
  const resolved = checked(options)
  const { patExpiry } = resolved.lifetimes
  const validFor = given['valid-for'] === undefined ? undefined : durationOf('valid-for', given['valid-for']) / 1000
  if (validFor !== undefined && validFor >= patExpiry) throw new UsageError(`--valid-for is "${given['valid-for']}", expected less than --pat-expiry, which is ${patExpiry} seconds`)
  return { options, resolved, validFor }
}

function checked (options: TooljetEmbedOptions) {
  try {
    const resolved = resolveOptions(options)
    proxyOf((resolved.tooljet as Target).url)
    return resolved
  } catch (error) {
    if (!isEmbedError(error)) throw error
    const [, name, problem] = /option "([\w.]+?)(?:\.\d+)?" (.*)\.$/s.exec(error.message) ?? []
    throw new UsageError(problem === undefined ? error.message : `${NAMES[name!] ?? name} ${problem}`, undefined, { cause: error })
  }
}

function mintLimitOf (given = 'auto'): TooljetTarget['mintLimit'] {
  if (given === 'auto') return 'auto'
  if (given === 'none') return false
  const [, max, timeWindow] = /^([1-9]\d{0,8})\/(.+)$/.exec(given) ?? []
  if (max === undefined) throw new UsageError(`--mint-limit is "${given}", expected auto, none, or a number and a time like 10/1m`)
  return { max: Number(max), timeWindow: durationOf('mint-limit', timeWindow!) }
}

/** Milliseconds of a duration in words; a number alone has no unit. */
function durationOf (name: 'valid-for' | 'mint-limit', text: string): number {
  const ms = /[a-z]/i.test(text) ? parseDuration(text) : undefined
  if (ms !== undefined && ms > 0) return Math.round(ms)
  throw new UsageError(`--${name} has "${text}", expected a time like 10h, "45 minutes" or 90s`)
}

function defined<T extends object> (values: T): { [name in keyof T]?: Exclude<T[name], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as { [name in keyof T]?: Exclude<T[name], undefined> }
}
