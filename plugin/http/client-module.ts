import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { FastifyInstance, FastifySchema } from 'fastify'
import { embedError } from '../errors.js'
import { optionError } from '../config/option-checks.js'

/** `fastify.tooljetEmbed.client`: where a page finds the browser module. */
export interface ClientModule {
  /** Checked with the server at each use, and so always right. */
  path: string
  /** For a `<script type="module" src>`: names the content, and is cached for ever. */
  url: string
  /** For the script's `integrity`. */
  integrity: string
}

/** What the module itself has for its endpoint. */
const DEFAULT_ENDPOINT = '"/api/get-tooljet-url"'

/** Out of `@fastify/swagger`'s list. */
const schema: FastifySchema & { hide: boolean } = { hide: true }

/**
 * The route of the browser module, for anyone: there is no secret in it.
 * @param tell is called with where the module is, before the route can be reached
 */
export function clientModule (options: { path: string, routePath: string | undefined }, tell: (client: ClientModule) => void) {
  const source = builtModule()

  return async function tooljetEmbedClient (scope: FastifyInstance): Promise<void> {
    const path = scope.prefix + options.path
    if (scope.hasRoute({ method: 'GET', url: path })) {
      throw optionError('client.path', 'false, or a path that no other route has', `"${options.path}", which is already taken`)
    }
    // a page need not say where the route is that this very plugin has
    const endpoint = options.routePath === undefined ? DEFAULT_ENDPOINT : JSON.stringify(scope.prefix + options.routePath)
    const text = source.replace(DEFAULT_ENDPOINT, () => endpoint)
    const hash = createHash('sha256').update(text).digest('base64url')
    const etag = `"${hash}"`
    tell({ path, url: `${path}?v=${hash}`, integrity: `sha256-${createHash('sha256').update(text).digest('base64')}` })

    scope.get<{ Querystring: { v?: unknown } }>(options.path, { schema }, async (request, reply) => {
      // another version, while instances of two are up: not to be kept under this one's name
      const isNamed = request.query.v === hash
      reply.headers({
        etag,
        'cache-control': isNamed ? 'public, max-age=31536000, immutable' : 'no-cache',
        'x-content-type-options': 'nosniff',
      })
      if (knows(request.headers['if-none-match'], etag)) return reply.code(304).send()
      return reply.type('text/javascript; charset=utf-8').send(text)
    })
  }
}

function knows (ifNoneMatch: string | undefined, etag: string): boolean {
  // a proxy that compresses makes it a weak one
  return ifNoneMatch?.split(',').some((known) => ['*', etag, `W/${etag}`].includes(known.trim())) ?? false
}

/** By the name that users import it by, which holds for the built plugin and for its sources. */
function builtModule (): string {
  try {
    return readFileSync(createRequire(import.meta.url).resolve('fastify-tooljet-embed/client'), 'utf8')
  } catch (cause) {
    throw embedError('TOOLJET_EMBED_OPTIONS', { detail: 'the browser module is not there: "npm run build" makes it, and option client: false does without', cause })
  }
}
