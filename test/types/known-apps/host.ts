import { expectTypeOf } from 'expect-type'
import Fastify from 'fastify'
import tooljetEmbed, { type AppAlias } from 'fastify-tooljet-embed'

/* Compiled and never run: a host that tells TypeScript its apps. */

const apps = {
  sales: { appSlug: 'sales' },
  inventory: { appId: '8ba8bf0e-6b8f-4e07-abb9-6fd2d816fabc', patExpiry: 600 },
}

declare module 'fastify-tooljet-embed' {
  interface FastifyTooljetEmbed { apps: typeof apps }
}

expectTypeOf<AppAlias>().toEqualTypeOf<'sales' | 'inventory'>()

const app = Fastify()
app.register(tooljetEmbed, { tooljet: { url: 'https://tooljet.example.com', apiToken: 'secret' }, apps })

app.get('/', async (request) => {
  await request.tooljetEmbedUrl({ app: 'sales' })
  await request.tooljetEmbedUrl({ app: 'inventory', replaces: 'some-url-id' })
  // @ts-expect-error: there is no such alias
  await request.tooljetEmbedUrl({ app: 'typo' })
  // @ts-expect-error: an alias of any kind is not one of the host's
  await request.tooljetEmbedUrl({ app: request.url })
  return request.tooljetEmbedUrl({ appSlug: 'sales' }) // as it is written in `apps`
})

await app.tooljetEmbed.forget({ email: 'ana@acme.test', app: 'sales' })
// @ts-expect-error: there is no such alias
await app.tooljetEmbed.forget({ email: 'ana@acme.test', app: 'typo' })
