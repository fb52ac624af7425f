import type { FastifyBaseLogger } from 'fastify'

/** What the plugin needs of a pino logger. */
export type Log = Pick<FastifyBaseLogger, 'info' | 'warn' | 'error'>
