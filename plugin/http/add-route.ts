import type { FastifyInstance, RouteOptions } from 'fastify'
import { optionError } from '../config/option-checks.js'

/**
 * Adds the one route of a scope.
 * @param option its path
 * @returns its URL as Fastify's router has it, with all prefixes
 * @throws TOOLJET_EMBED_OPTIONS when there is another route
 */
export function addRoute (scope: FastifyInstance, option: string, route: RouteOptions): string {
  let url = ''
  const { bodyLimit, validatorCompiler, serializerCompiler } = route
  // the last of all such hooks: one of the host's may have set what it has for its own routes
  scope.addHook('onRoute', (added) => {
    if (added.method !== route.method) return
    Object.assign(added, { bodyLimit, validatorCompiler, serializerCompiler })
    url = added.url
  })
  try {
    scope.route(route)
  } catch (error) {
    if ((error as { code?: string }).code !== 'FST_ERR_DUPLICATED_ROUTE') throw error
    throw optionError(option, 'false, or a path that no other route has', `"${route.url}", which is already taken`)
  }
  // of "/prefix" and "/prefix/", which is what "/" stands for, relative addresses need the second
  return route.url === '/' && !url.endsWith('/') ? `${url}/` : url
}
