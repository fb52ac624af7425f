// one import, of types only, and Fastify's own types have the decorators
import type {} from 'fastify-tooljet-embed'
import { expectTypeOf } from 'expect-type'
import type { FastifyInstance, FastifyRequest } from 'fastify'

/* Compiled and never run. */

expectTypeOf<FastifyInstance['tooljetEmbed']['origins']>().toEqualTypeOf<string[]>()
expectTypeOf<FastifyRequest['tooljetEmbedUrl']>().returns.resolves.toHaveProperty('redirectUrl').toEqualTypeOf<string>()
