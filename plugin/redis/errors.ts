import { sanitizeError } from '../errors.js'

/** Error replies that mean that Redis (or a proxy for it) is unavailable as a whole; any other is about one command. */
const UNAVAILABLE = new Set([
  'LOADING', 'READONLY', 'OOM', 'MISCONF', 'NOREPLICAS', 'MASTERDOWN', 'CLUSTERDOWN', 'TRYAGAIN', 'BUSY', 'NOAUTH', 'WRONGPASS', 'UNKILLABLE',
])

/** The name that ioredis gives to an error reply. */
const REPLY_ERROR = 'ReplyError'

interface ReplyError extends Error {
  name: typeof REPLY_ERROR
  /** Which command it answers. */
  command?: { name: string }
}

/** ioredis's message when its connection has ended. */
const CLOSED = /^Connection is closed/

/** Commands with which clients begin a connection: when one of them is refused, everything that waits for it fails. */
const HANDSHAKE = new Set(['hello', 'auth', 'select', 'info'])

/** An error reply to a part of a script. */
export function replyError (message: string): Error {
  const error = new Error(message)
  error.name = REPLY_ERROR
  return error
}

/** Whether it is an error reply of Redis. */
export function isReply (error: unknown): error is ReplyError {
  return error instanceof Error && error.name === REPLY_ERROR
}

/**
 * What an error of a Redis client means: `unavailable` concerns everybody, `refused` the one command; `unexpected` is no
 * error of Redis at all but a mistake in code.
 */
export function classify (error: unknown): 'unavailable' | 'refused' | 'unexpected' {
  if (!(error instanceof Error)) return 'unexpected'
  if (isReply(error)) return HANDSHAKE.has(error.command?.name.toLowerCase() ?? '') || UNAVAILABLE.has(replyCode(error.message)) ? 'unavailable' : 'refused'
  // errors of sockets and of ioredis's own carry a code, or are plain
  const isOfCode = error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError || error instanceof SyntaxError
  return isOfCode && !('code' in error) ? 'unexpected' : 'unavailable'
}

/** The word that an error reply begins with; Redis 6 puts the line of the script before it. */
function replyCode (message: string): string {
  return /^(?:.*user_script: ?\d+: )?-?([A-Z]+)\b/s.exec(message)?.[1] ?? ''
}

/** Why there is no connection, or none that works: a message, and Redis's or the system's code. */
export function connectionError (error: unknown): Error & { code?: string } {
  const { lastNodeError } = error as { lastNodeError?: Error } // a Cluster's own error does not say why it reached no node
  if (lastNodeError !== undefined && !CLOSED.test(lastNodeError.message)) return connectionError(lastNodeError)
  const plain = sanitizeError(error)
  if (isReply(error)) plain.code = replyCode(plain.message)
  return plain
}

/** What an operator can do about a Redis that is unavailable; `undefined` when the reason does not say: wait. */
export function remedyOf ({ message, code = '' }: Error & { code?: string }): string | undefined {
  if (/WRONGPASS|NOAUTH|invalid username|invalid password/i.test(message)) return 'give the user and password that Redis knows, percent-encoded, as in redis://user:password@host'
  if (/NOPERM.*\bselect\b/is.test(message)) return 'the user may not choose a database: give it +select, or use database 0'
  if (/DB index is out of range|SELECT is not allowed/i.test(message)) return 'this Redis has no such database: use one that it has'
  if (/max number of clients/i.test(message)) return 'Redis accepts no more connections: raise maxclients, or find out who opens them'
  if (code === 'READONLY') return 'this is a replica: give the address of the master'
  if (code === 'OOM') return 'Redis is full: give it more memory'
  if (code === 'ECONNREFUSED') return 'nothing listens there: is the address right, and does Redis run?'
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return 'there is no such host name'
  if (/certificate|SIGNED|SIGNATURE/i.test(`${code} ${message}`)) return 'set NODE_EXTRA_CA_CERTS to a file with the certificate of who has signed Redis\'s'
  if (/RESP type|reply type byte/i.test(message)) return 'something else than Redis answers there: is it the right port?'
  if (/wrong version number|packet length|Protocol error/i.test(message)) return 'is one side TLS and the other not? rediss:// is TLS, redis:// is not'
  if (/subscriber mode|monitoring mode/.test(message)) return 'the host\'s client is subscribed or monitors: give the plugin a client of its own'
  if (/refresh slots cache/.test(message)) return 'no node of the Cluster can be reached: are the addresses right, as this machine sees them?'
  if (/cluster support disabled/.test(message)) return 'this Redis is no Cluster: give a client for one server'
  if (/sentinels are unreachable/.test(message)) return 'no Sentinel can be reached, or none knows a master of that name: are the addresses right, as this machine sees them, and the name?'
  if (CLOSED.test(message)) return 'the client that the host gave has ended (quit, disconnect, or a retryStrategy that gave up), and does not connect again by itself'
  return undefined
}

/** The same for a Redis that has never answered: it may be one with TLS that is called without, or the other way round. */
export function remedyBeforeFirstAnswer (error: Error & { code?: string }): string | undefined {
  return remedyOf(error) ?? (/no answer|ECONNRESET/.test(error.message) ? 'is the address right, and is TLS on both sides (rediss://) or on neither (redis://)?' : undefined)
}
