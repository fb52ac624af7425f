import { existsSync, readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import { Type, type Static, type TObject, type TSchema } from '@sinclair/typebox'
import { envSchema } from 'env-schema'
import { redisUrlProblem } from '../plugin/redis/url.js'

/*
 * What the example reads from its environment. A description says what a variable takes, `writeOnly` that it is a secret, or may
 * hold one. What they are for is told in .env.example, and in docs/tooljet.md for the stand-in.
 */

const port = (value: number) => Type.Integer({ minimum: 1, maximum: 65_535, default: value, description: 'a port number from 1 to 65535' })
const text = (description: string) => Type.Optional(Type.String({ description }))
const httpUrl = Type.String({ pattern: '^https?://.', description: 'a URL that starts with http:// or https://', writeOnly: true })
const HOST = Type.String({ default: 'localhost', description: 'a host name or an address' })
const lateMs = Type.Integer({ minimum: 0, default: 0, description: 'a whole number of milliseconds, 0 or more' })
const TOKEN = { minLength: 1, description: 'a string', writeOnly: true }

function oneOf<const T extends string> (values: readonly T[], value: NoInfer<T>) {
  return Type.Unsafe<T>({ type: 'string', enum: values, default: value, description: `one of ${values.join(', ')}` })
}

const needed = {
  REDIS_URL: Type.String({ pattern: '^(rediss?://.|none$)', description: 'a URL that starts with redis:// or rediss://, or none', writeOnly: true }),
  TOOLJET_URL: httpUrl,
  TOOLJET_API_TOKEN: Type.String({ ...TOKEN, description: 'ToolJet\'s EXTERNAL_API_ACCESS_TOKEN' }),
  JWT_SECRET: Type.String({ minLength: 32, description: 'at least 32 characters', writeOnly: true }),
}

const others = {
  PORT: port(3001),
  HOST,
  ENCRYPTION_KEY: Type.Optional(Type.String({ minLength: 16, description: 'at least 16 characters', writeOnly: true })),
  TOOLJET_EMBED_ORIGINS: Type.Optional(Type.String({ description: 'origins with commas between them', writeOnly: true })),
  TOOLJET_APP_ID: Type.Optional(Type.String({ pattern: '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$', description: 'the id of an app, a UUID' })),
  DEMO_USERS: text('e-mails with commas between them'),
  DEMO_ADMIN: text('an e-mail'),
  TRUST_PROXY: text('addresses of proxies, as Fastify\'s trustProxy takes them'),
  LOG_LEVEL: oneOf(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], 'warn'),
  LOG_FORMAT: oneOf(['text', 'json'], 'text'),
  OTEL_TRACES_EXPORTER: oneOf(['none', 'console'], 'none'),
}

/** Of one portal. */
export const portalEnv = Type.Object({ ...needed, ...others })

/** Of `npm start`, which brings along what is missing. */
export const startEnv = Type.Object({ ...Type.Partial(Type.Object(needed)).properties, ...others })

/** Of `npm run example:spa`: the page's port, with the API's after it. */
export const spaEnv = Type.Object({
  PORT: port(5173),
  REDIS_URL: Type.Optional(Type.String({ pattern: '^rediss?://.', description: 'a URL that starts with redis:// or rediss://', writeOnly: true })),
})

/** Of the stand-in ToolJet alone. */
export const toolJetEnv = Type.Object({
  PORT: port(3000),
  HOST,
  TOOLJET_PUBLIC_URL: Type.Optional(httpUrl),
  TOOLJET_API_TOKEN: Type.String({ ...TOKEN, default: 'tooljet-demo-token' }),
  TOOLJET_TOKENS: oneOf(['insert', 'replace', 'keep', 'per-app'], 'insert'),
  TOOLJET_PAT_UNIT: oneOf(['seconds', 'minutes'], 'seconds'),
  TOOLJET_MINTS_PER_MINUTE: Type.Integer({ minimum: 0, default: 10, description: 'a whole number, 0 or more' }),
  TOOLJET_RETRY_AFTER: oneOf(['on', 'off'], 'on'),
  TOOLJET_ACCESS: oneOf(['mint', 'session'], 'mint'),
  TOOLJET_EMAIL_CASE: oneOf(['exact', 'lower'], 'exact'),
  TOOLJET_MESSAGES: oneOf(['typed', 'untyped'], 'typed'),
  TOOLJET_LATE_LOAD: lateMs,
  TOOLJET_APP_LOAD: lateMs,
  TOOLJET_SEED: text('path of a JSON file'),
})

/**
 * Checks the environment and fills in the defaults; an empty variable is one that is not set.
 * @param options.file whether to read `.env`, or the file that ENV_FILE names, for what is not in the environment itself
 * @throws with every variable that is missing or wrong, and with what was expected
 */
export function readEnv<T extends TObject> (schema: T, { file = false } = {}): Static<T> {
  const path = process.env['ENV_FILE'] ?? '.env'
  const data = { ...withoutEmpty(file && existsSync(path) ? parseEnv(readFileSync(path, 'utf8')) : {}), ...withoutEmpty(process.env) }
  try {
    const env = envSchema<Static<T>>({ schema, data: { ...data }, env: false })
    const { REDIS_URL: redis } = env as { REDIS_URL?: string }
    const problem = redis === undefined || redis === 'none' ? undefined : redisUrlProblem(redis)
    if (problem !== undefined) throw new Error(complaint('REDIS_URL', redis, schema.properties['REDIS_URL']!, problem))
    return env
  } catch (error) {
    const { errors } = error as { errors?: SchemaError[] }
    if (errors === undefined) throw error
    const names = new Set(errors.map(({ instancePath, params }) => params.missingProperty ?? instancePath.slice(1)))
    throw new Error([...names].map((name) => complaint(name, data[name], schema.properties[name]!)).join('\n'))
  }
}

/** The parts of a list with commas. */
export function listOf (text = ''): string[] {
  return text.split(',').map((part) => part.trim()).filter((part) => part !== '')
}

interface SchemaError {
  instancePath: string
  params: { missingProperty?: string }
}

function complaint (name: string, value: string | undefined, { description, writeOnly }: TSchema, problem?: string): string {
  const is = value === undefined ? 'is missing' : writeOnly === true ? 'is something else (not shown)' : `is ${JSON.stringify(value)}`
  return `${name} ${is}${problem === undefined ? '' : `: it ${problem}`}, expected ${description}`
}

function withoutEmpty (env: NodeJS.Dict<string>): Record<string, string> {
  return Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined && entry[1] !== ''))
}
