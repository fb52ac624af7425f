import { MINT_PATH, SESSION_PATH, type SessionRequest } from '../../tooljet/client.js'
import { readBytes, textOf } from '../../tooljet/body.js'
import { newPool, proxyOf } from '../../tooljet/pools.js'
import type { Reply } from '../../tooljet/replies.js'

const MAX_BYTES = 256 * 1024
const CERTIFICATE = /CERT|SIGNATURE|ALTNAME/

/** ToolJet could not be called. */
export class NoAnswer extends Error {
  constructor (text: string, readonly remedy: string) {
    super(text)
  }
}

/** A ToolJet, one call at a time. */
export class ToolJetCalls {
  readonly #url: string
  readonly #apiToken: string
  readonly #timeoutMs: number

  constructor ({ url, apiToken, timeoutMs }: { url: string, apiToken: string, timeoutMs: number }) {
    this.#url = url
    this.#apiToken = apiToken
    this.#timeoutMs = timeoutMs
  }

  /** @throws NoAnswer */
  mint (body: object): Promise<Reply> {
    return this.#call('POST', this.#url + MINT_PATH, { authorization: `Basic ${this.#apiToken}` }, body)
  }

  /** As ToolJet's own page does it: without the API token. @throws NoAnswer */
  session (request: SessionRequest): Promise<Reply> {
    return this.#call('POST', this.#url + SESSION_PATH, {}, request)
  }

  /** Whether the app of a session shows: 501 says that it is not released. @throws NoAnswer */
  releasedApp (app: string, signedPat: string): Promise<Reply> {
    return this.#call('GET', `${this.#url}/api/apps/validate-released-app-access/${encodeURIComponent(app)}`, { tj_auth_token: signedPat })
  }

  /** A page of the front end. @throws NoAnswer */
  page (url: string): Promise<Reply> {
    return this.#call('GET', url, { accept: 'text/html' })
  }

  async #call (method: 'GET' | 'POST', url: string, headers: Record<string, string>, body?: object): Promise<Reply> {
    const { origin, pathname } = new URL(url)
    const pool = newPool(origin, this.#timeoutMs)
    try {
      const { statusCode, headers: responseHeaders, body: stream } = await pool.request({
        origin,
        path: pathname,
        method,
        headers: { accept: 'application/json', ...headers, ...(body !== undefined && { 'content-type': 'application/json' }) },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(this.#timeoutMs),
      })
      return { status: statusCode, headers: responseHeaders, body: await textOf(await readBytes(stream, MAX_BYTES, () => {}), responseHeaders, 4 * MAX_BYTES) }
    } catch (error) {
      throw this.#noAnswer(error, origin)
    } finally {
      await pool.destroy()
    }
  }

  #noAnswer (error: unknown, origin: string): NoAnswer {
    const { code = '', message = '', name = '' } = error as NodeJS.ErrnoException
    const proxy = proxyOf(origin)?.host
    const variable = origin === new URL(this.#url).origin ? 'TOOLJET_URL' : 'TOOLJET_EMBED_ORIGINS'
    const refused = /Proxy response \((\d+)\)/.exec(message)?.[1]
    if (refused !== undefined) return new NoAnswer(`the proxy ${proxy} refuses to let it be called (status ${refused})`, refused === '407' ? 'set HTTPS_PROXY to http://user:password@host:port' : 'may the proxy reach it? NO_PROXY names hosts that are called without')
    if (proxy !== undefined && name !== 'TimeoutError' && !CERTIFICATE.test(code)) return new NoAnswer(`the proxy ${proxy} cannot be reached (${code || name})`, 'set HTTPS_PROXY to an address like http://proxy.example.com:3128; NO_PROXY names hosts that are called without')
    if (name === 'TimeoutError') return new NoAnswer(`it does not answer within ${this.#timeoutMs / 1000} s`, 'is the address right, and is a firewall between?')
    if (code === 'CERT_HAS_EXPIRED') return new NoAnswer('its certificate has expired', 'renew it')
    if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return new NoAnswer('its certificate is for another name', `set ${variable} to a name that is in it`)
    if (CERTIFICATE.test(code)) return new NoAnswer(`its certificate is not trusted here (${code})`, 'set NODE_EXTRA_CA_CERTS to a file with the certificate of who has signed it')
    if (/wrong version number|packet length/i.test(message)) return new NoAnswer('it does not speak TLS at this port', `${variable} begins with http:// then`)
    if (code === 'UND_ERR_SOCKET' && origin.startsWith('http:')) return new NoAnswer('it closes the connection', `does it speak TLS? ${variable} begins with https:// then`)
    return new NoAnswer(`it cannot be reached (${code || name})`, `is ${variable} the address of ToolJet${variable === 'TOOLJET_URL' ? '' : "'s front end"}, as this machine sees it?`)
  }
}
