/** Body of a request to the endpoint; empty where the plugin's `apps` has one entry. */
export interface Lookup {
  app?: string | undefined
  appId?: string | undefined
  appSlug?: string | undefined
  /** `urlId` of a URL that is no longer valid. */
  replaces?: string | undefined
  /** From the previous answer: keeps the place in the queue. */
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

/** Why no app is shown. */
export interface Problem {
  /** Code of the server, or `OFFLINE`, `UNREACHABLE`, `BAD_REPLY`, `SILENT`, `OUTAGE`, `LOOP`, `NOT_AVAILABLE`, `BLOCKED_BY_CSP`, `HTTP_<status>`. */
  code: string
  /** HTTP status, 0 without an answer. */
  status: number
  /** Seconds. */
  retryAfter?: number | undefined
}

/** The user's place in the queue of mints. */
export interface Waiting {
  /** 1 is next. */
  position: number
  /** Seconds until the turn; `null`: not known, while ToolJet does not answer. */
  etaSeconds: number | null
}

/** An answer without a URL; with `queue` the user waits for a turn. */
export interface Failure extends Problem {
  queue?: Waiting & { ticket: string } | undefined
}

/** Settings of the requests to the endpoint. */
export interface RequestSettings {
  /** Headers of each request to the endpoint, for a bearer token or against CSRF. A function is called for each request. */
  headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>) | undefined
  /** Replaces the page's `fetch`. */
  fetch?: typeof fetch | undefined
}

/** The failure for a request without an answer. */
export function noAnswer (): Failure {
  return { code: navigator.onLine ? 'UNREACHABLE' : 'OFFLINE', status: 0 }
}

/**
 * Requests a URL. Never rejects: failures are returned.
 * @param get returns an attribute of the element
 */
export async function requestUrl (get: (name: string) => string | undefined, { headers, fetch = globalThis.fetch }: RequestSettings, extra: Pick<Lookup, 'replaces' | 'ticket'>, signal: AbortSignal): Promise<EmbedUrl | Failure> {
  let failure = noAnswer()
  try {
    const lookup: Lookup = { app: get('app'), appId: get('app-id'), appSlug: get('app-slug'), ...extra }
    const allHeaders = new Headers(typeof headers === 'function' ? await headers() : headers)
    allHeaders.set('content-type', 'application/json') // replaces any other, however it is spelled
    const response = await fetch(get('endpoint') ?? '/api/get-tooljet-url', { // replaced by the address of the plugin's route when the plugin serves this module
      method: 'POST',
      headers: allHeaders,
      body: JSON.stringify(lookup),
      credentials: (get('credentials') ?? (headers ? 'same-origin' : 'include')) as RequestCredentials,
      signal,
    })
    const body = await response.json().catch(() => null) ?? {}
    // a host that redirects to its sign-in page redirects this request, too
    const status = response.redirected ? 401 : response.status
    if (status < 400) {
      failure = { code: 'BAD_REPLY', status: 502 }
      return /^https?:/.test(body.redirectUrl) && new URL(body.redirectUrl) ? body : failure
    }
    // from the body, because the header of another origin cannot be read; a date in it is ignored, for the clock may be wrong
    const retryAfter = Math.max(0, body.retryAfter ?? response.headers.get('retry-after')) || undefined
    return { code: `${body.code ?? `HTTP_${status}`}`, status, retryAfter, queue: body.queue }
  } catch {
    return failure
  }
}
