import { STATUS_CODES } from 'node:http'
import { Type, type Static, type TSchema } from '@sinclair/typebox'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import type { FastifyInstance, FastifyReply, FastifyRequest, FastifySchema } from 'fastify'
import { codesOf, embedError, isEmbedError, statusOf, type LimitState } from '../errors.js'
import type { Embed } from '../embed.js'
import type { Settings } from '../config/options.js'
import { addRoute } from './add-route.js'

const MAX_BODY_BYTES = 16_384

const Body = Type.Object({
  appId: Type.Optional(Type.String({ description: 'Id of the app, a UUID' })),
  appSlug: Type.Optional(Type.String({ description: 'Slug of the app' })),
  app: Type.Optional(Type.String({ description: 'Alias of the app' })),
  email: Type.Optional(Type.String({ description: 'Need not be sent; when sent it must be the signed-in user\'s own' })),
  replaces: Type.Optional(Type.String({ description: 'urlId of a URL that turned out dead' })),
  ticket: Type.Optional(Type.String({ description: 'Of the answer before, TOOLJET_EMBED_BUSY: it keeps the place in the queue' })),
}, { description: 'Which app; nothing where the server knows just one', examples: [{ appId: '8ba8bf0e-6b8f-4e07-abb9-6fd2d816fabc' }] })

const header = {
  always: {
    'cache-control': { type: 'string', description: 'no-store' },
    'referrer-policy': { type: 'string', description: 'no-referrer' },
  },
  limit: {
    'x-ratelimit-limit': { type: 'integer', description: 'Asks that a user has in a window' },
    'x-ratelimit-remaining': { type: 'integer', description: 'Asks left in this window' },
    'x-ratelimit-reset': { type: 'integer', description: 'Seconds until the window ends' },
  },
  retryAfter: {
    'retry-after': { type: 'integer', description: 'Seconds after which asking again makes sense' },
  },
}

const Given = Type.Object({
  redirectUrl: Type.String({ description: 'For an iframe\'s src; a secret of its user' }),
  urlId: Type.String({ description: 'Opaque id of this URL' }),
  source: Type.Unsafe<'minted' | 'reused'>({ type: 'string', enum: ['minted', 'reused'], description: 'Whether it was made for this answer' }),
  expiresAt: Type.String({ description: 'End of the URL\'s life, ISO 8601' }),
  expiresIn: Type.Integer({ description: 'Seconds of life left' }),
}, { description: 'An embed URL for the signed-in user', headers: { ...header.always, ...header.limit } })

/** What an answer that can be tried again says besides. */
function besidesOf (status: number): Record<string, TSchema> {
  if (status !== 429 && status !== 503) return {}
  const retryAfter = Type.Optional(Type.Integer({ description: 'Seconds after which to ask again, as in Retry-After' }))
  if (status === 503) return { retryAfter }
  const queue = Type.Optional(Type.Object({
    position: Type.Integer({ description: '1 is next' }),
    etaSeconds: Type.Unsafe<number | null>({ type: ['integer', 'null'], description: 'Seconds until the turn; null while ToolJet does not answer' }),
    ticket: Type.String({ description: 'To be sent back with the next request' }),
  }, { description: 'Of TOOLJET_EMBED_BUSY: the place among those who wait' }))
  return { retryAfter, queue }
}

/** The answer with every code of one status; in the place of a code may be one of Fastify's, or of the host's own. */
function refused (status: number, besides = '', headers: object = header.limit) {
  const codes = codesOf(status)
  return Type.Object({
    statusCode: Type.Literal(status),
    code: Type.String({ description: codes.map(({ code }) => code).join(', '), example: codes[0]!.code }),
    error: Type.String({ example: STATUS_CODES[status] }),
    message: Type.String(),
    ...besidesOf(status),
  }, {
    description: codes.map(({ code, sentence }) => `\`${code}\`: ${sentence}`).join(' ') + besides,
    headers: { ...header.always, ...headers },
  })
}

const HostError = Type.Object({
  statusCode: Type.Integer(),
  code: Type.String(),
  error: Type.String(),
  message: Type.String(),
}, { description: 'Another error of Fastify or of the server around, as its error handler gives it' })

const answers = {
  200: Given,
  400: refused(400, ' Or a body that is not as it should be, with a code of Fastify\'s own.'),
  401: refused(401, '', {}),
  403: refused(403),
  404: refused(404),
  429: refused(429, '', { ...header.limit, ...header.retryAfter }),
  502: refused(502),
  503: refused(503, '', { ...header.limit, ...header.retryAfter }),
  504: refused(504),
  '4xx': HostError,
  '5xx': HostError,
}

/** A copy, which hooks of the host may change, without what only OpenAPI knows: a strict validator of the host's would stop at it. */
function plain (schema: object): object {
  return JSON.parse(JSON.stringify(schema, (key, value: unknown) => (['headers', 'example'].includes(key) ? undefined : value))) as object
}

/** For `@fastify/swagger`, in place of a `transform` of the host's, which may be for schemas of another kind. */
const documentation = {
  swaggerTransform: ({ schema, url }: { schema: object, url: string }) => ({ schema: { ...schema, response: answers }, url }),
}

type Authenticate = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>

const PROGRESS = Symbol('tooljet-embed progress')

declare module 'fastify' {
  interface FastifyRequest {
    [PROGRESS]?: { startedAt: number, isHandled?: true }
  }
}

/** As the host has it for its own routes, by `onProtoPoisoning` and `onConstructorPoisoning`. */
type Poisoning = Parameters<FastifyInstance['getDefaultJsonParser']>[0]

/**
 * The plugin's own route: a thin wrapper around `Embed`. It reads, validates and writes by itself, for what the host has set
 * for its own routes may be for bodies, schemas and answers of another kind.
 * @param onReady is called with its URL as Fastify's router has it
 */
export function routes (embed: Embed, { path, config, constraints, security, authenticate }: NonNullable<Settings['route']> & { authenticate: Authenticate }, onReady: (url: string) => void) {
  return async function tooljetEmbedRoutes (scope: FastifyInstance): Promise<void> {
    scope.decorateRequest(PROGRESS)
    const { onProtoPoisoning = 'error', onConstructorPoisoning = 'error' } = scope.initialConfig
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('application/json', { parseAs: 'string' }, scope.getDefaultJsonParser(onProtoPoisoning as Poisoning, onConstructorPoisoning as Poisoning))

    onReady(addRoute(scope, 'route.path', {
      method: 'POST',
      url: path,
      config: { ...documentation, ...config },
      constraints,
      bodyLimit: MAX_BODY_BYTES,
      schema: {
        summary: 'URL of a ToolJet app for the signed-in user',
        description: 'Gives a URL that opens the app in an iframe. It is reused until its end, and minted anew when it is replaced.',
        operationId: 'getTooljetUrl',
        tags: ['tooljet'],
        body: plain(Body),
        response: plain(answers),
        ...(security && { security }),
      } as FastifySchema, // with what @fastify/swagger has besides
      validatorCompiler: () => () => true,
      serializerCompiler: () => serialize,
      onRequest: async (request, reply) => {
        reply.header('cache-control', 'no-store').header('referrer-policy', 'no-referrer')
        request[PROGRESS] = { startedAt: performance.now() }
        try {
          return await promiseOf(authenticate(request, reply))
        } catch (error) {
          throw asUnauthenticated(error)
        }
      },
      handler: async (request, reply) => {
        const lookup = parseBody(request.body)
        const progress = request[PROGRESS]!
        progress.isHandled = true
        const { url, error, limit } = await embed.handle(request, lookup, progress.startedAt)
        setLimitHeaders(reply, limit)
        if (url === undefined) throw error
        return url
      },
      errorHandler: async (error, request, reply) => {
        const progress = request[PROGRESS]
        let refusal: unknown = error
        if (progress !== undefined && !progress.isHandled) {
          const outcome = await embed.handleInvalidRequest(request, error, progress.startedAt)
          refusal = outcome.error
          // a limiter of the host's has said what its own headers are
          if (isEmbedError(refusal) || statusOf(refusal) !== 429) setLimitHeaders(reply, outcome.limit)
        }
        if (!isEmbedError(refusal)) throw toError(refusal) // to the host's error handler
        const { statusCode, code, message, retryAfter, queue } = refusal
        reply.code(statusCode).headers(refusal.headers ?? {})
        return { statusCode, code, error: STATUS_CODES[statusCode], message, retryAfter, queue }
      },
    }))
  }
}

const body = TypeCompiler.Compile(Body)

/** @throws TOOLJET_EMBED_BAD_REQUEST */
function parseBody (given: unknown = {}): Static<typeof Body> {
  if (body.Check(given)) return given
  const name = body.Errors(given).First()!.path.slice(1)
  throw embedError('TOOLJET_EMBED_BAD_REQUEST', { detail: name === '' ? 'the body is not a JSON object' : `"${name}" must be a string` })
}

/** Whatever is answered, by this route or by the host, which may wrap it: the schema of answers is for readers only. */
function serialize (payload: unknown): string {
  if (!(payload instanceof Error)) return JSON.stringify(payload)
  // as Fastify's default handler gives it
  const { statusCode, code, error, message } = payload as Error & Record<'statusCode' | 'code' | 'error', unknown>
  return JSON.stringify({ statusCode, code: textOf(code), error, message: textOf(message) ?? '' })
}

/** Anything can be thrown. Fastify would answer with an object as it is, with whatever is in it. */
function toError (thrown: unknown): Error {
  if (thrown instanceof Error) return thrown
  const { code, message } = (thrown ?? {}) as { code?: unknown, message?: unknown }
  const error: Error & { statusCode?: number, code?: string | undefined } = new Error(textOf(message) ?? 'what was thrown is no error', { cause: thrown })
  error.statusCode = statusOf(thrown)
  error.code = textOf(code)
  return error
}

function textOf (value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function setLimitHeaders (reply: FastifyReply, limit: LimitState | undefined): void {
  if (limit === undefined) return
  reply.headers({ 'x-ratelimit-limit': limit.limit, 'x-ratelimit-remaining': limit.remaining, 'x-ratelimit-reset': limit.reset })
}

/** What does not return a promise may not have looked yet, so it lets nobody through. */
function promiseOf (authenticated: unknown): Promise<unknown> {
  if (typeof (authenticated as Promise<unknown> | undefined)?.then === 'function') return authenticated as Promise<unknown>
  throw embedError('TOOLJET_EMBED_UNAUTHENTICATED', { detail: 'option "authenticate" has to return a promise' })
}

/** Whoever authenticates, a user who is not signed in gets one code. */
function asUnauthenticated (error: unknown): unknown {
  if (isEmbedError(error)) return error
  const { code } = (error ?? {}) as { code?: unknown }
  const isUnauthenticated = statusOf(error) === 401 || (typeof code === 'string' && code.startsWith('FST_JWT_'))
  return isUnauthenticated ? embedError('TOOLJET_EMBED_UNAUTHENTICATED', { cause: error }) : error
}
