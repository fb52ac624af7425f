import type { FastifyInstance } from 'fastify'
import type { Registry } from 'prom-client'

/**
 * `/metrics` for Prometheus. They name no user and no app, but anyone may read them here: a real portal has them on a port
 * that is not reached from outside.
 */
export function metricsPage (registry: Registry) {
  return async function metricsRoutes (scope: FastifyInstance): Promise<void> {
    scope.get('/metrics', async (_request, reply) => {
      reply.type(registry.contentType).header('cache-control', 'no-store')
      return registry.metrics()
    })
  }
}
