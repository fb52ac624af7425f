/** What is asked for; nothing is needed where the plugin's `apps` has one entry. */
export interface Ask {
  app?: string
  appId?: string
  appSlug?: string
  /** `urlId` of a URL that turned out dead. */
  replaces?: string
  /** Of the answer before: keeps the place in line. */
  ticket?: string
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
  /** The server's, or `OFFLINE`, `UNREACHABLE`, `BAD_REPLY`, `SILENT`, `LOOP`, `HTTP_<status>`. */
  code: string
  /** HTTP status, 0 without an answer. */
  status: number
  /** Seconds. */
  retryAfter?: number
}

/** Where the user waits for a turn at ToolJet. */
export interface Waiting {
  /** 1 is next. */
  position: number
  /** Seconds until the turn; `null`: not known, while ToolJet does not answer. */
  etaSeconds: number | null
}

/** An answer without a URL; with `queue`, one that is to be waited for. */
export interface Refusal extends Problem {
  queue?: Waiting & { ticket: string }
}

/** Asks the endpoint. Never throws: what went wrong is the answer. */
export async function askForUrl (endpoint: string, ask: Ask, timeoutMs: number, signal: AbortSignal): Promise<EmbedUrl | Refusal> {
  try {
    const response = await fetch(endpoint, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(ask),
      credentials: 'include',
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    })
    return outcome(response, await response.json().catch(() => null) ?? {})
  } catch {
    return { code: navigator.onLine ? 'UNREACHABLE' : 'OFFLINE', status: 0 }
  }
}

function outcome (response: Response, body: Partial<EmbedUrl & Refusal>): EmbedUrl | Refusal {
  const { redirectUrl } = body as EmbedUrl
  if (response.ok && /^https?:/.test(redirectUrl) && URL.canParse(redirectUrl)) return body as EmbedUrl
  // a host that sends its visitors to a sign-in page sends this request there, too
  const status = response.redirected ? 401 : response.status
  if (status < 400) return { code: 'BAD_REPLY', status: 502 }
  // another origin's header cannot be seen; a date in it is nothing that a wrong clock can read
  const retryAfter = Number(body.retryAfter ?? response.headers.get('retry-after')) || undefined
  return { code: body.code ?? `HTTP_${status}`, status, retryAfter, ...(body.queue && { queue: body.queue }) }
}
