import { AsyncLocalStorage } from 'node:async_hooks'
import { tracingChannel } from 'node:diagnostics_channel'
import { context, SpanKind, SpanStatusCode, trace, type Span, type Tracer } from '@opentelemetry/api'
import { BasicTracerProvider, ConsoleSpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import type { TooljetEmbedMintTrace, TooljetEmbedUrlTrace } from 'fastify-tooljet-embed'

/**
 * Makes OpenTelemetry spans of the plugin's channels: one of each ask, and inside it one of its mint call to ToolJet, if it made one.
 * An ask's span is in the one that is active, such as that of the HTTP request.
 * @returns how to leave it
 */
export function traceEmbeds (tracer: Tracer): () => void {
  const current = new AsyncLocalStorage<Span>()

  function follow (name: string, kind: SpanKind, channelName: string): () => void {
    const channel = tracingChannel<Span, TooljetEmbedUrlTrace & TooljetEmbedMintTrace>(channelName)
    const spans = new WeakMap<object, Span>()
    const end = (message: unknown): void => {
      const { instance, app, source, code, error } = message as TooljetEmbedUrlTrace
      const span = spans.get(message as object)
      span?.setAttribute('service.instance.id', instance)
      if (app !== undefined) span?.setAttribute('tooljet_embed.app', app)
      if (source !== undefined) span?.setAttribute('tooljet_embed.source', source)
      if (code !== undefined) span?.setAttribute('error.type', code).setStatus({ code: SpanStatusCode.ERROR, message: error!.message })
      span?.end()
    }
    channel.start.bindStore(current, (message) => {
      const parent = current.getStore()
      const span = tracer.startSpan(name, { kind }, parent === undefined ? context.active() : trace.setSpan(context.active(), parent))
      spans.set(message, span)
      return span
    })
    channel.asyncEnd.subscribe(end)
    return () => {
      channel.start.unbindStore(current)
      channel.asyncEnd.unsubscribe(end)
    }
  }

  const leaves = [follow('tooljet-embed url', SpanKind.INTERNAL, 'tooljet-embed:url'), follow('tooljet-embed mint', SpanKind.CLIENT, 'tooljet-embed:mint')]
  return () => { for (const leave of leaves) leave() }
}

/** Spans on the console, for a look; with an exporter of OTLP in its place they go to a collector. */
export function consoleTraces (): { stop: () => Promise<void> } {
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(new ConsoleSpanExporter())] })
  const leave = traceEmbeds(provider.getTracer('fastify-tooljet-embed'))
  return {
    async stop () {
      leave()
      await provider.shutdown()
    },
  }
}
