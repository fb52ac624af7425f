/*
 * What a run leaves behind for the checker. All times are milliseconds since 1970 on this machine's clock, the
 * clients' carried on by the monotonic one.
 */

/** One ask of a client and what came of it. */
export interface Answer {
  requestId: string
  life: number
  via: 'route' | 'decorator'
  email: string
  appId: string
  /** What must come of it, whatever else goes wrong. */
  expect: 'url' | 'USER_NOT_FOUND' | 'ACCESS_DENIED' | 'EMAIL_MISMATCH' | 'BAD_REQUEST' | 'UNAUTHENTICATED'
  replaces?: string
  start: number
  end: number
  /** `undefined`: there was no answer. */
  status?: number
  /** When the instance sent it. */
  sentAt?: number
  /** Of an error; '': the body was not a coded one. */
  code?: string
  retryAfter?: string
  urlId?: string
  source?: string
  /** PAT inside the redirectUrl. */
  token?: string
  /** Why there was no answer: 'timeout' or the connection's error. */
  failure?: string
}

/** One `forget` of a client. */
interface Forget {
  life: number
  email: string
  appId: string
  start: number
  end: number
  status?: number
}

/** One process. */
export interface Life {
  id: number
  slot: number
  /** Its name in the audit stream. */
  instance: string
  startedAt: number
  /** When and how it was told to end. */
  ending?: { at: number, by: 'kill' | 'stop' }
  exit?: { at: number, code: number | null, signal: string | null }
  /** Unhandled rejections and uncaught exceptions. */
  crashes: string[]
  /** When it took Redis for away, by its own log. */
  redisDown: { from: number, to?: number }[]
}

/** One mint call as the stand-in saw it. */
export interface MintRecord {
  email: string
  appId: string
  at: number
  endedAt?: number
  token?: string
}

interface TokenRecord {
  email: string
  appId: string
  mintedAt: number
  expiresAt: number
}

export interface StreamEntry {
  id: string
  fields: Record<string, string>
}

/** What was disturbed, while it was. */
export interface Disturbance {
  of: 'redis' | 'redis-replies' | 'tooljet' | 'tooljet-link' | 'instance'
  /** Of the one instance that it hits; `undefined`: of all. */
  slot?: number
  from: number
  to: number
}

export interface Limits {
  patExpiry: number
  minRemaining: number
  timeoutMs: number
  redisTimeoutMs: number
  /** docs/reuse.md: `timeoutMs` + 5 × `redisTimeoutMs`. */
  lockMs: number
  /** For an answer while replies of Redis are lost, and nothing else is wrong: one Redis timeout, one mint, and half a second. */
  promptMs: number
  clientTimeoutMs: number
  /** For the end of an instance after SIGTERM. */
  stopMs: number
}

export interface Records {
  limits: Limits
  answers: Answer[]
  forgets: Forget[]
  lives: Life[]
  mints: MintRecord[]
  tokens: Map<string, TokenRecord>
  /** The stream's entries of each time between two restarts with an empty memory. */
  epochs: Iterable<StreamEntry>[]
  /** Audit events that instances left to the log. */
  logged: { life: number, fields: Record<string, string> }[]
  /** ToolJet's 429 and 503 with Retry-After. */
  pauses: { at: number, seconds: number }[]
  disturbances: Disturbance[]
  /** When the process with the load, the proxies and the stand-in was busy with something else: what came late then may have been in time. */
  lags: { from: number, to: number }[]
  /** Log lines with a PAT, the API token or a JWT. */
  leaks: string[]
}

export function pairOf ({ email, appId }: { email: string, appId: string }): string {
  return `${email} ${appId}`
}

/** A line for people. */
export function tell ({ requestId, via, email, appId, life, start, end, status, code, source, failure }: Answer): string {
  const came = failure ?? `${status} ${code ?? source}`
  return `${via} ${email} ${appId.slice(0, 8)} of life ${life} at ${new Date(start).toISOString()} +${Math.round(end - start)} ms: ${came} (${requestId})`
}
