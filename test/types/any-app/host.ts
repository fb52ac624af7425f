import { expectTypeOf } from 'expect-type'
import Fastify from 'fastify'
import { Cluster, Redis } from 'ioredis'
import byDefault, { errorCodes, tooljetEmbed, type AllowedApp, type AppAlias, type EmbedError, type EmbedErrorCode, type RedisLike, type TooljetEmbedAsk, type TooljetEmbedOptions, type TooljetEmbedUrl } from 'fastify-tooljet-embed'

/* Compiled and never run: what the types let through, and what they do not, where no apps are told of. */

const appId = '8ba8bf0e-6b8f-4e07-abb9-6fd2d816fabc'
const tooljet = { url: 'https://tooljet.example.com', apiToken: 'secret' }

expectTypeOf(byDefault).toEqualTypeOf(tooljetEmbed)
expectTypeOf<AppAlias>().toEqualTypeOf<string>()

// registering
const app = Fastify()
app.register(tooljetEmbed, { tooljet, prefix: '/portal', logLevel: 'warn' })
app.register(tooljetEmbed, () => ({ tooljet }))
// @ts-expect-error: `tooljet` is required
app.register(tooljetEmbed, {})
// @ts-expect-error: and both of its fields are
app.register(tooljetEmbed, { tooljet: { url: tooljet.url } })
// @ts-expect-error: a number of seconds
app.register(tooljetEmbed, { tooljet, patExpiry: '1 hour' })
// @ts-expect-error: no such option
app.register(tooljetEmbed, { tooljet, patExpriy: 600 })
// @ts-expect-error: `true` is no way to have a route
app.register(tooljetEmbed, { tooljet, route: true })
// @ts-expect-error: an authentication that takes a callback
app.register(tooljetEmbed, { tooljet, authenticate: (_request, _reply, done) => done() })
// @ts-expect-error: an authentication that is not waited for
app.register(tooljetEmbed, { tooljet, authenticate: (request) => { request.headers.authorization?.trim() } })
app.register(tooljetEmbed, {
  tooljet,
  identity: async (request) => request.ip,
  authorize: (request, ask) => {
    expectTypeOf(ask).toEqualTypeOf<{ email: string, app: string }>()
    return request.hostname === ask.app
  },
})

// Redis: of ioredis 5 and 6, whichever is installed
expectTypeOf<Redis>().toExtend<RedisLike>()
expectTypeOf<Cluster>().toExtend<RedisLike>()
app.register(tooljetEmbed, { tooljet, redis: new Redis() })
app.register(tooljetEmbed, { tooljet, redis: 'redis://localhost' })
// @ts-expect-error: no client
app.register(tooljetEmbed, { tooljet, redis: { host: 'localhost' } })

// `apps`: each by id or by slug
expectTypeOf<{ appId: string, patExpiry: number }>().toExtend<AllowedApp>()
app.register(tooljetEmbed, { tooljet, apps: { sales: { appId }, inventory: { appSlug: 'inventory', minRemaining: 5 } } })
// @ts-expect-error: by both
app.register(tooljetEmbed, { tooljet, apps: { sales: { appId, appSlug: 'sales' } } })
// @ts-expect-error: by neither
app.register(tooljetEmbed, { tooljet, apps: { sales: { patExpiry: 600 } } })
expectTypeOf<{ apps: { sales: { appSlug: string } } }>().toExtend<Pick<TooljetEmbedOptions, 'apps'>>()

// asking
app.get('/', async (request) => {
  await request.tooljetEmbedUrl()
  await request.tooljetEmbedUrl({})
  await request.tooljetEmbedUrl({ appId })
  await request.tooljetEmbedUrl({ appId, app: undefined, replaces: undefined })
  await request.tooljetEmbedUrl({ app: request.url, replaces: 'some-url-id' })
  // @ts-expect-error: by id and slug
  await request.tooljetEmbedUrl({ appId, appSlug: 'sales' })
  // @ts-expect-error: by id and alias
  await request.tooljetEmbedUrl({ appId, app: 'sales' })
  // @ts-expect-error: by slug and alias
  await request.tooljetEmbedUrl({ appSlug: 'sales', app: 'sales' })
  // @ts-expect-error: for nobody but the signed-in user
  await request.tooljetEmbedUrl({ appId, email: 'ben@acme.test' })
  // @ts-expect-error: an app is no string
  await request.tooljetEmbedUrl('sales')
  const url = await request.tooljetEmbedUrl({ appSlug: 'sales' })
  expectTypeOf(url).toEqualTypeOf<TooljetEmbedUrl>()
  expectTypeOf(url.source).toEqualTypeOf<'minted' | 'reused'>()
  expectTypeOf(request.tooljetEmbedUrl).parameter(0).toEqualTypeOf<TooljetEmbedAsk | undefined>()
  return url
})

// managing
expectTypeOf(app.tooljetEmbed.forget({ email: 'ana@acme.test' })).resolves.toEqualTypeOf<number>()
app.tooljetEmbed.forget({ email: 'ana@acme.test', appId })
// @ts-expect-error: whose
app.tooljetEmbed.forget({ appId })
// @ts-expect-error: by id and slug
app.tooljetEmbed.forget({ email: 'ana@acme.test', appId, appSlug: 'sales' })
const { redis } = await app.tooljetEmbed.health()
expectTypeOf(redis.state).toEqualTypeOf<'up' | 'down'>()

// errors
expectTypeOf(errorCodes).toExtend<Record<EmbedErrorCode, new (detail: string) => EmbedError>>()
// @ts-expect-error: no such code
export const wrong = errorCodes.TOOLJET_EMBED_TYPO
const error: unknown = undefined
if (error instanceof errorCodes.TOOLJET_EMBED_BUSY) expectTypeOf(error.retryAfter).toEqualTypeOf<number | undefined>()
