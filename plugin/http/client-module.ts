import { createHash } from 'node:crypto'
import type { FastifyInstance, FastifySchema } from 'fastify'
import { embedError } from '../errors.js'
import type { Settings } from '../config/options.js'
import { fillPath, relativePath } from './paths.js'
import { addRoute } from './add-route.js'
import { browserModule } from './browser-module.js'

/** Where a page finds the browser module. */
export interface ClientAddress {
  /** Checked with the server at each use, and so always right. */
  path: string
  /** For a `<script type="module" src>`: names the content, and is cached for ever. */
  url: string
  /** For the script's `integrity`. */
  integrity: string
}

/**
 * `fastify.tooljetEmbed.client`: where a page finds the browser module. Under a prefix with parameters each request has
 * addresses of its own: then `path` and `url` throw `TOOLJET_EMBED_OPTIONS`, and `for()` has them.
 */
export interface ClientModule extends ClientAddress {
  /**
   * The same, with the parameters of the route's prefix filled in.
   * @param request or anything else that has their values in `params`
   * @throws TOOLJET_EMBED_OPTIONS when one is missing
   */
  for (request: { params: unknown }): ClientAddress
}

/** What the module itself has for its endpoint. */
const DEFAULT_ENDPOINT = '"/api/get-tooljet-url"'

/** Out of `@fastify/swagger`'s list, also where the host's `transform` is for schemas of another kind. */
const schema: FastifySchema & { hide: boolean } = { hide: true }
const documentation = { swaggerTransform: false as const }

type ClientOptions = NonNullable<Settings['client']> & {
  /** Where the plugin's own route is, as Fastify has it. */
  routeUrl: string | undefined
}

/**
 * The route of the browser module, for anyone: there is no secret in it.
 * @param onReady is called with where the module is, before the route can be reached
 */
export function clientModule ({ path, config, constraints, routeUrl }: ClientOptions, onReady: (client: ClientModule) => void) {
  const source = browserModule()

  return async function tooljetEmbedClient (scope: FastifyInstance): Promise<void> {
    const pattern = addRoute(scope, 'client.path', {
      method: 'GET',
      url: path,
      schema,
      config: { ...documentation, ...config },
      constraints,
      handler: async (request, reply) => {
        // another version, while instances of two are up: not to be kept under this one's name
        const isNamed = (request.query as { v?: unknown } | undefined)?.v === hash
        reply.headers({
          etag,
          'cache-control': isNamed ? 'public, max-age=31536000, immutable' : 'no-cache',
          'x-content-type-options': 'nosniff',
        })
        if (etagMatches(request.headers['if-none-match'], etag)) return reply.code(304).send()
        return reply.type('text/javascript; charset=utf-8').send(text)
      },
    })
    // A page need not say where the route is that this very plugin has, and the module knows best where it came from itself.
    const endpoint = routeUrl === undefined ? undefined : relativePath(pattern, routeUrl)
    if (routeUrl !== undefined && endpoint === undefined) {
      scope.log.warn({ client: pattern, route: routeUrl }, 'tooljet-embed: the path of the browser module lacks parameters of the route, its pages have to give an "endpoint"')
    }
    const text = endpoint === undefined ? source : source.replace(DEFAULT_ENDPOINT, () => `import.meta.resolve(${JSON.stringify(endpoint)})`)
    const digest = createHash('sha256').update(text).digest()
    const hash = digest.toString('base64url')
    const etag = `"${hash}"`
    const integrity = `sha256-${digest.toString('base64')}`

    const addressFor = ({ params }: { params: unknown }): ClientAddress => {
      const path = fillPath(pattern, (name) => {
        const value = (params as Record<string, unknown> | null | undefined)?.[name]
        if (typeof value === 'string' && value !== '') return value
        throw embedError('TOOLJET_EMBED_OPTIONS', { detail: `the browser module is at "${pattern}", and "${name}" is not known: client.for(request) takes it from request.params` })
      })
      return { path, url: `${path}?v=${hash}`, integrity }
    }
    onReady({
      get path () { return addressFor({ params: undefined }).path },
      get url () { return addressFor({ params: undefined }).url },
      integrity,
      for: addressFor,
    })
  }
}

function etagMatches (ifNoneMatch: string | undefined, etag: string): boolean {
  // a proxy that compresses makes it a weak one
  return ifNoneMatch?.split(',').some((known) => ['*', etag, `W/${etag}`].includes(known.trim())) ?? false
}
