import { Readable } from 'node:stream'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { AuditSource } from './audit-log.js'
import { liveEvents } from './audit-live.js'
import type { Tail } from './audit-tail.js'
import { orSignIn } from './session.js'
import type { SendPage } from './shell.js'
import { isAdmin, type DemoUser } from './users.js'

interface AuditPageSettings {
  log: AuditSource
  tail: Tail
  /** The stream in Redis, where there is one. */
  stream: string | undefined
  sendPage: SendPage
  users: readonly DemoUser[]
}

const PAGE = 50
/** Who has signed out meanwhile, or is no admin any more, gets no more events then; a browser comes back by itself. */
const STREAM_LIFE_MS = 10 * 60_000
const ID = '^\\d+-\\d+$'
const FILTERS = ['email', 'app', 'event', 'outcome', 'code', 'since', 'until']

const eventsQuery = {
  type: 'object',
  additionalProperties: false,
  properties: {
    ...Object.fromEntries(FILTERS.map((name) => [name, { type: 'string', maxLength: 300 }])),
    limit: { type: 'integer', minimum: 1, maximum: 250, default: PAGE },
    after: { type: 'string', pattern: ID },
  },
}
const liveQuery = { type: 'object', properties: { after: { type: 'string', pattern: ID } } }

/** `/admin/audit`: the audit log for the demo's admin, with the queries inside Redis and a live tail. */
export function auditPage ({ log, tail, stream, sendPage, users }: AuditPageSettings) {
  return async function auditRoutes (scope: FastifyInstance): Promise<void> {
    const viewers = new Set<FastifyReply['raw']>()
    scope.addHook('preClose', async () => { for (const viewer of viewers) viewer.destroy() })
    scope.addHook('onClose', async () => log.close())
    scope.addHook('onRequest', async (_request, reply) => { reply.header('cache-control', 'no-store') })
    scope.setErrorHandler(tellWhy)

    const mayEnter = ({ user }: FastifyRequest): boolean => isAdmin(users, (user as { email: string }).email)
    scope.get('/admin/audit', { onRequest: orSignIn }, (request, reply) => (
      mayEnter(request) ? sendPage(reply, 'audit') : sendPage(reply.code(403), 'audit-forbidden')
    ))

    const onRequest = async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
      await request.jwtVerify()
      if (!mayEnter(request)) return reply.code(403).send({ statusCode: 403, error: 'Forbidden', message: 'The audit log is for its admin only.' })
    }

    type EventsQuery = { limit: number, after?: string } & Record<string, string>
    scope.get<{ Querystring: EventsQuery }>('/admin/audit/events', { onRequest, schema: { querystring: eventsQuery } }, async (request) => {
      const { limit, after, ...given } = request.query
      const filters = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== ''))
      const { entries, cursor } = await log.query(filters, limit, after)
      return { entries, cursor, ...(stream !== undefined && { command: commandFor(stream, filters, limit) }) }
    })

    scope.get('/admin/audit/summary', { onRequest }, () => log.summary())

    scope.get<{ Querystring: { after?: string } }>('/admin/audit/live', { onRequest, schema: { querystring: liveQuery } }, (request, reply) => {
      const lastEventId = String(request.headers['last-event-id'] ?? '')
      const after = new RegExp(ID).test(lastEventId) ? lastEventId : request.query.after
      const ended = new AbortController()
      const timer = setTimeout(() => ended.abort(), STREAM_LIFE_MS)
      viewers.add(reply.raw)
      reply.raw.once('close', () => {
        viewers.delete(reply.raw)
        clearTimeout(timer)
        ended.abort()
      })
      reply.type('text/event-stream').header('x-accel-buffering', 'no') // a proxy in front passes each event on at once
      return reply.send(Readable.from(liveEvents(log, tail, after, ended.signal)))
    })
  }
}

/** What to type for the same answer. */
function commandFor (stream: string, filters: Record<string, string>, limit: number): string {
  const args = [stream, ...Object.entries(filters).flat(), 'limit', String(limit)]
  return `redis-cli FCALL_RO tooljet_audit 1 ${args.map(quoted).join(' ')}`
}

function quoted (word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}

/** Redis says what is wrong with a question, and the officer should see it. */
function tellWhy (error: FastifyError, _request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { message, statusCode } = error
  if (statusCode !== undefined) return reply.send(error)
  const wrong = /^ERR tooljet_audit: (.+?)(?:; usage: .*)?$/.exec(message)?.[1]
  if (wrong !== undefined) return reply.code(400).send({ statusCode: 400, error: 'Bad Request', message: wrong })
  const missing = missingFunctions(message)
  if (missing !== undefined) return reply.code(501).send({ statusCode: 501, error: 'Not Implemented', code: 'NO_FUNCTIONS', message: missing })
  return reply.code(503).send({ statusCode: 503, error: 'Service Unavailable', message: 'Redis does not answer.' })
}

function missingFunctions (message: string): string | undefined {
  if (/unknown command/i.test(message)) {
    return 'This Redis is older than 7 and has no functions, so there is nothing to search and count with here. New events are shown as they come; for older ones there is redis-cli --eval.'
  }
  if (/function not found/i.test(message)) {
    return 'The functions tooljet_audit and tooljet_audit_stats are not in this Redis: the plugin was told not to load them, or may not. New events are shown as they come.'
  }
}
