/** What Redis, or what stands in for it, says when it is unavailable as a whole; any other error reply is about one command. */
const UNAVAILABLE = new Set([
  'LOADING', 'READONLY', 'OOM', 'MISCONF', 'NOREPLICAS', 'MASTERDOWN', 'CLUSTERDOWN', 'TRYAGAIN', 'BUSY', 'NOAUTH', 'WRONGPASS', 'UNKILLABLE',
])

/** What ioredis calls an error that Redis answered with. */
const REPLY_ERROR = 'ReplyError'

/** An error reply to a part of a script. */
export function replyError (message: string): Error {
  return Object.assign(new Error(message), { name: REPLY_ERROR })
}

/** Whether Redis has answered with it. */
export function isReply (error: unknown): boolean {
  return error instanceof Error && error.name === REPLY_ERROR
}

/**
 * What an error of a Redis client means: `unavailable` concerns everybody, `refused` the one command; `unexpected` is no
 * error of Redis at all but a mistake in code.
 */
export function classify (error: unknown): 'unavailable' | 'refused' | 'unexpected' {
  if (!(error instanceof Error)) return 'unexpected'
  if (isReply(error)) return isUnavailable(error.message) ? 'unavailable' : 'refused'
  // errors of sockets and of ioredis's own carry a code, or are plain
  const isOfCode = error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError || error instanceof SyntaxError
  return isOfCode && !('code' in error) ? 'unexpected' : 'unavailable'
}

function isUnavailable (message: string): boolean {
  // a script of Redis 6 says which of its lines failed before it says why
  const [, code = ''] = /^(?:.*user_script: ?\d+: )?-?([A-Z]+)\b/s.exec(message) ?? []
  return UNAVAILABLE.has(code)
}
