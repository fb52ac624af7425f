import type { FastifyRequest } from 'fastify'

/** The request's id as text; nothing for an object: a host's `genReqId` may return any value. */
export function requestIdOf ({ id }: { id: unknown }): string | undefined {
  try {
    const text = String(id ?? '')
    return text.startsWith('[object ') ? undefined : text
  } catch {
    return undefined
  }
}

const TRACEPARENT = /^[\da-f]{2}-(?!0{32})([\da-f]{32})-[\da-f]{16}-[\da-f]{2}/

/** The trace id of W3C's `traceparent` header. */
export function traceIdOf ({ headers: { traceparent } }: FastifyRequest): string | undefined {
  return typeof traceparent === 'string' ? TRACEPARENT.exec(traceparent)?.[1] : undefined
}
