import { STATUS_CODES } from 'node:http'
import fjsCompiler from '@fastify/fast-json-stringify-compiler'
import { TypeBoxValidatorCompiler, type TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { FastifyInstance, FastifyReply, FastifyRequest, FastifySerializerCompiler } from 'fastify'
import { embedError, isEmbedError } from './errors.js'
import type { Embed, Trail } from './embed.js'
import type { LimitState } from './limits.js'

const Body = Type.Object({
  appId: Type.Optional(Type.String({ description: 'Id of the app, a UUID' })),
  appSlug: Type.Optional(Type.String({ description: 'Slug of the app' })),
  app: Type.Optional(Type.String({ description: 'Alias of the app' })),
  email: Type.Optional(Type.String({ description: 'Need not be sent; when sent it must be the signed-in user\'s own' })),
  replaces: Type.Optional(Type.String({ description: 'urlId of a URL that turned out dead' })),
})

const Given = Type.Object({
  redirectUrl: Type.String({ description: 'For an iframe\'s src' }),
  urlId: Type.String({ description: 'Opaque id of this URL' }),
  source: Type.Union([Type.Literal('minted'), Type.Literal('reused')]),
  expiresAt: Type.String({ description: 'End of the URL\'s life, ISO 8601' }),
  expiresIn: Type.Integer({ description: 'Seconds of life left' }),
}, { description: 'An embed URL for the signed-in user' })

const Refused = Type.Object({
  statusCode: Type.Integer(),
  code: Type.String(),
  error: Type.String(),
  message: Type.String(),
}, { description: 'Why there is no URL' })

type Authenticate = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>

/** The plugin's own route: a thin wrapper around the walk. */
export function routes (embed: Embed, { path, authenticate }: { path: string, authenticate: Authenticate }) {
  const trails = new WeakMap<FastifyRequest, Trail>()

  return async function tooljetEmbedRoutes (scope: FastifyInstance): Promise<void> {
    // The host's compilers may be for schemas of another kind, and its error handler may answer in a form of its own.
    const compileFor200 = fjsCompiler()({}, {}) as FastifySerializerCompiler<unknown>
    scope.setValidatorCompiler(TypeBoxValidatorCompiler)
    scope.setSerializerCompiler((route) => (route.httpStatus === '200' ? compileFor200(route) : JSON.stringify))

    scope.withTypeProvider<TypeBoxTypeProvider>().post(path, {
      schema: {
        summary: 'URL of a ToolJet app for the signed-in user',
        tags: ['tooljet'],
        body: Body,
        response: { 200: Given, '4xx': Refused, '5xx': Refused },
      },
      onRequest: async (request, reply) => {
        reply.header('cache-control', 'no-store').header('referrer-policy', 'no-referrer')
        trails.set(request, embed.newTrail())
        try {
          return await authenticate(request, reply)
        } catch (error) {
          throw asUnauthenticated(error)
        }
      },
      preValidation: async (request) => {
        request.body ??= {}
      },
      errorHandler: async (error, request, reply) => {
        const trail = trails.get(request)
        if (!isEmbedError(error)) {
          if (trail !== undefined) await embed.recordRefusal(request, trail, error)
          throw error // to the host's error handler
        }
        const { statusCode, code, message } = error
        reply.code(statusCode).headers(error.headers ?? {})
        setLimitHeaders(reply, trail?.limit ?? (error as { limit?: LimitState }).limit)
        return { statusCode, code, error: STATUS_CODES[statusCode], message }
      },
    }, async (request, reply) => {
      const trail = trails.get(request)
      const url = await embed.urlFor(request, request.body, trail)
      setLimitHeaders(reply, trail?.limit)
      return url
    })
  }
}

function setLimitHeaders (reply: FastifyReply, limit: LimitState | undefined): void {
  if (limit === undefined) return
  reply.headers({ 'x-ratelimit-limit': limit.limit, 'x-ratelimit-remaining': limit.remaining, 'x-ratelimit-reset': limit.reset })
}

/** Whoever authenticates, a user who is not signed in gets one code. */
function asUnauthenticated (error: unknown): unknown {
  const { statusCode, code } = error as { statusCode?: number, code?: string }
  return statusCode === 401 || code?.startsWith('FST_JWT_') ? embedError('TOOLJET_EMBED_UNAUTHENTICATED', { cause: error }) : error
}
