/** What is asked for; nothing is needed where the plugin's `apps` has one entry. */
export interface Ask {
  app?: string
  appId?: string
  appSlug?: string
  /** `urlId` of a URL that turned out dead. */
  replaces?: string
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

/** Asks the endpoint. Never throws: what went wrong is the answer. */
export async function askForUrl (endpoint: string, ask: Ask, timeoutMs: number, signal: AbortSignal): Promise<EmbedUrl | Problem> {
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

function outcome (response: Response, body: Partial<EmbedUrl & Problem>): EmbedUrl | Problem {
  const { redirectUrl } = body as EmbedUrl
  if (response.ok && /^https?:/.test(redirectUrl) && URL.canParse(redirectUrl)) return body as EmbedUrl
  // a host that sends its visitors to a sign-in page sends this request there, too
  const status = response.redirected ? 401 : response.status
  if (status < 400) return { code: 'BAD_REPLY', status: 502 }
  const retryAfter = Number(response.headers.get('retry-after')) || undefined // a date is nothing that a wrong clock can read
  return { code: body.code ?? `HTTP_${status}`, status, retryAfter }
}
