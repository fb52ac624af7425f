import type { App } from '../access/apps.js'
import { codeOf, embedError } from '../errors.js'
import type { Log } from '../observability/log.js'
import type { SessionRequest, ToolJetClient } from './client.js'

/**
 * Checks after a mint that the user may open the app, by opening a session that is not used: some ToolJets check access
 * only there.
 */
export class AccessCheck {
  readonly #client: ToolJetClient
  readonly #log: Log
  #isUnchecked = false

  constructor ({ client, log }: { client: ToolJetClient, log: Log }) {
    this.#client = client
    this.#log = log
  }

  /**
   * An outcome that is neither a session nor a refusal proves nothing: the URL is used unchecked.
   * @throws TOOLJET_EMBED_ACCESS_DENIED
   */
  async run (redirectUrl: string, app: App): Promise<void> {
    const outcome = await this.#open(redirectUrl)
    if (outcome === 401 || outcome === 403) {
      this.#log.warn({ app: app.displayName, status: outcome }, 'tooljet-embed: ToolJet refuses the URL that it has just minted: the user may not open the app, or a new token is not valid while an older one lives')
      throw embedError('TOOLJET_EMBED_ACCESS_DENIED')
    }
    const isUnchecked = outcome !== 200 && outcome !== 201
    if (isUnchecked && !this.#isUnchecked && !this.#client.closed) {
      this.#log.warn({ outcome }, 'tooljet-embed: access to apps cannot be checked, URLs are used without')
    }
    this.#isUnchecked = isUnchecked
  }

  /** @returns the status, or why there is none */
  async #open (redirectUrl: string): Promise<number | string> {
    const request = sessionRequestOf(redirectUrl)
    if (request === undefined) return 'the redirectUrl names no app, or no token'
    return this.#client.openSession(request).catch(codeOf)
  }
}

/** The request that the page of this URL sends. The URL's path has the app's id, also after a mint by slug. */
export function sessionRequestOf (redirectUrl: string): SessionRequest | undefined {
  const { pathname, searchParams } = new URL(redirectUrl)
  const appId = /\/embed-apps\/([^/]+)\/?$/.exec(pathname)?.[1]
  const accessToken = searchParams.get('personal-access-token')
  return appId === undefined || accessToken === null ? undefined : { appId, accessToken }
}
