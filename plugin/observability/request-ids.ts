import type { FastifyRequest } from 'fastify'

/** As text, where it can be told: a host's `genReqId` may give anything. */
export function requestIdOf ({ id }: { id: unknown }): string | undefined {
  try {
    const text = String(id ?? '')
    return text.startsWith('[object ') ? undefined : text
  } catch {
    return undefined
  }
}

const TRACEPARENT = /^[\da-f]{2}-(?!0{32})([\da-f]{32})-[\da-f]{16}-[\da-f]{2}/

/** Of W3C's header, where the request has one. */
export function traceIdOf ({ headers: { traceparent } }: FastifyRequest): string | undefined {
  return typeof traceparent === 'string' ? TRACEPARENT.exec(traceparent)?.[1] : undefined
}
