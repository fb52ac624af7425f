/** What the endpoint is sent; nothing is needed where the plugin's `apps` has one entry. */
export interface Lookup {
  app?: string | undefined
  appId?: string | undefined
  appSlug?: string | undefined
  /** `urlId` of a URL that turned out dead. */
  replaces?: string | undefined
  /** Of the answer before: keeps the place in line. */
  ticket?: string | undefined
}

/** The endpoint's answer. */
export interface EmbedUrl {
  redirectUrl: string
  urlId: string
  source: 'minted' | 'reused'
  expiresAt: string
  /** Whole seconds. */
  expiresIn: number
}

/** Why there is no app to see. */
export interface Problem {
  /** The server's, or `OFFLINE`, `UNREACHABLE`, `BAD_REPLY`, `SILENT`, `OUTAGE`, `LOOP`, `NOT_AVAILABLE`, `BLOCKED_BY_CSP`, `HTTP_<status>`. */
  code: string
  /** HTTP status, 0 without an answer. */
  status: number
  /** Seconds. */
  retryAfter?: number | undefined
}

/** Where the user waits for a turn at ToolJet. */
export interface Waiting {
  /** 1 is next. */
  position: number
  /** Seconds until the turn; `null`: not known, while ToolJet does not answer. */
  etaSeconds: number | null
}

/** An answer without a URL; with `queue`, one that is to be waited for. */
export interface Failure extends Problem {
  queue?: Waiting & { ticket: string } | undefined
}

/** How the endpoint is asked. */
export interface RequestSettings {
  /** Headers of each request to the endpoint, for a bearer token or against CSRF. A function is called for each request. */
  headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>) | undefined
  /** In place of the page's `fetch`. */
  fetch?: typeof fetch | undefined
}

/** There was no answer. */
export function noAnswer (): Failure {
  return { code: navigator.onLine ? 'UNREACHABLE' : 'OFFLINE', status: 0 }
}

/**
 * Asks the endpoint. Never fails: what went wrong is the answer.
 * @param get an attribute of the element
 */
export async function requestUrl (get: (name: string) => string | undefined, { headers, fetch = globalThis.fetch }: RequestSettings, extra: Pick<Lookup, 'replaces' | 'ticket'>, signal: AbortSignal): Promise<EmbedUrl | Failure> {
  let failure = noAnswer()
  try {
    const lookup: Lookup = { app: get('app'), appId: get('app-id'), appSlug: get('app-slug'), ...extra }
    const sent = new Headers(typeof headers === 'function' ? await headers() : headers)
    sent.set('content-type', 'application/json') // whatever its spelling was
    const response = await fetch(get('endpoint') ?? '/api/get-tooljet-url', { // the plugin puts the way to its own route here when it serves this module
      method: 'POST',
      headers: sent,
      body: JSON.stringify(lookup),
      credentials: (get('credentials') ?? (headers ? 'same-origin' : 'include')) as RequestCredentials,
      signal,
    })
    const body = await response.json().catch(() => null) ?? {}
    // a host that sends its visitors to a sign-in page sends this request there, too
    const status = response.redirected ? 401 : response.status
    if (status < 400) {
      failure = { code: 'BAD_REPLY', status: 502 }
      return /^https?:/.test(body.redirectUrl) && new URL(body.redirectUrl) ? body : failure
    }
    // another origin's header cannot be seen; a date in it is nothing that a wrong clock can read
    const retryAfter = Math.max(0, body.retryAfter ?? response.headers.get('retry-after')) || undefined
    return { code: `${body.code ?? `HTTP_${status}`}`, status, retryAfter, queue: body.queue }
  } catch {
    return failure
  }
}
