const ASK_MS = 30_000

/** Why the portal gave no URL. `status` 0: it did not answer at all. */
export class AskError extends Error {
  constructor ({ status, code, retryAfter }) {
    super(code ?? `status ${status}`)
    this.status = status
    this.code = code
    /** Seconds. */
    this.retryAfter = retryAfter
  }
}

/**
 * Asks the portal for the signed-in user's URL of an app.
 * @param ask { app, replaces? }: the app's alias, and the id of a URL that turned out dead
 * @throws AskError
 */
export async function askForUrl (ask, signal) {
  let response, body
  try {
    response = await fetch('/api/get-tooljet-url', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(ask),
      signal: AbortSignal.any([signal, AbortSignal.timeout(ASK_MS)]),
    })
    body = await response.json().catch(() => ({}))
  } catch {
    throw new AskError({ status: 0 })
  }
  if (response.ok && typeof body.redirectUrl === 'string') return body
  const retryAfter = Number(response.headers.get('retry-after')) || undefined
  throw new AskError({ status: response.ok ? 502 : response.status, code: body.code, retryAfter })
}

/** What to tell the user. */
export function sentenceFor ({ status, code, retryAfter }, { email, appName }) {
  if (code === 'LOGGED_OUT') return `ToolJet has ended the session of ${appName} several times in a row. Wait a moment, then try again.`
  if (status === 0) {
    return navigator.onLine === false ? 'You are offline. Connect to the network, then try again.' : 'The portal does not answer. Check your connection, then try again.'
  }
  if (status === 401) return 'Your session has ended. Sign in again to go on.'
  if (status === 403) return `You have no access to ${appName}. Ask your ToolJet administrator to let you in.`
  if (status === 404 && code === 'TOOLJET_EMBED_APP_NOT_FOUND') return `${appName} is no longer in ToolJet. Tell the people who run this portal.`
  if (status === 404) return `There is no ToolJet account for ${email}. Ask your ToolJet administrator for an invitation.`
  if (status === 429) return `That was too often in a short time. Try again in ${retryAfter ?? 60} seconds.`
  if (status >= 500) return 'ToolJet cannot be reached at the moment. Try again in a little while.'
  return `${appName} cannot be opened (error ${status}). Tell the people who run this portal.`
}
