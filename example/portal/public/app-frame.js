import { AskError, askForUrl } from './ask.js'

// What ToolJet's pages need; without allow-same-origin they have no session.
const SANDBOX = 'allow-scripts allow-same-origin allow-forms allow-popups allow-downloads'
const MAX_RECOVERIES = 3
const RECOVERY_WINDOW_MS = 60_000
const RENEW_BEFORE_MS = 30_000
const LONGEST_TIMER_MS = 2 ** 31 - 1

/**
 * Keeps one app of ToolJet open inside an element: asks for its URL, renews it before it ends, and asks anew when
 * ToolJet says that the session is over.
 *
 * `tell` is called with `{ state: 'loading' }`, `{ state: 'open', url, endsAt }` or `{ state: 'error', error }`.
 */
export class AppFrame {
  #place
  #tell
  #app
  #frame
  #frameOrigin
  #url
  #deadUrlId
  #recoveries = []
  #timer
  #asking = new AbortController()

  constructor (place, tell) {
    this.#place = place
    this.#tell = tell
    window.addEventListener('message', (event) => this.#onMessage(event))
  }

  /** @param app { alias, name } */
  open (app) {
    this.#app = app
    this.#deadUrlId = undefined
    return this.reload()
  }

  async reload () {
    this.#remove()
    this.#tell({ state: 'loading' })
    await this.#ask((url) => this.#mount(url), (error) => this.#tell({ state: 'error', error }))
  }

  /** A later ask makes an earlier one's answer void. */
  async #ask (use, fail) {
    this.#asking.abort()
    const asking = this.#asking = new AbortController()
    try {
      const url = await askForUrl({ app: this.#app.alias, replaces: this.#deadUrlId }, asking.signal)
      if (!asking.signal.aborted) use(url)
    } catch (error) {
      if (!asking.signal.aborted) fail(error)
    }
  }

  // A new element each time, without a name: ToolJet keeps its token in window.name.
  #mount (url) {
    this.#remove()
    this.#deadUrlId = undefined
    const frame = document.createElement('iframe')
    frame.title = `${this.#app.name} in ToolJet`
    frame.referrerPolicy = 'no-referrer'
    frame.setAttribute('sandbox', SANDBOX)
    frame.src = url.redirectUrl
    this.#frame = frame
    this.#frameOrigin = new URL(url.redirectUrl).origin
    this.#place.append(frame)
    this.#keep(url)
  }

  #keep (url) {
    this.#url = url
    const lifeMs = url.expiresIn * 1000
    const endsAt = Date.now() + lifeMs
    // late enough for the portal to give a new URL and not this one again
    const waitMs = Math.max(1000, lifeMs - Math.min(RENEW_BEFORE_MS, lifeMs / 20))
    this.#timer = setTimeout(() => this.#renew(endsAt), Math.min(waitMs, LONGEST_TIMER_MS))
    this.#tell({ state: 'open', url, endsAt })
  }

  #renew (endsAt) {
    return this.#ask(
      (url) => url.urlId === this.#url.urlId ? this.#keep(url) : this.#mount(url),
      // what is open works until its end, and only then is there something to say
      () => { this.#timer = setTimeout(() => this.reload(), Math.max(0, endsAt - Date.now())) }
    )
  }

  #onMessage (event) {
    if (this.#frame === undefined || event.source !== this.#frame.contentWindow || event.origin !== this.#frameOrigin) return
    if (event.data?.type !== 'TJ_EMBED_APP_LOGOUT') return
    this.#remove() // at once: the next thing in it is ToolJet's own login page
    this.#deadUrlId = this.#url.urlId

    const now = Date.now()
    this.#recoveries = this.#recoveries.filter((at) => at > now - RECOVERY_WINDOW_MS)
    if (this.#recoveries.length >= MAX_RECOVERIES) {
      this.#tell({ state: 'error', error: new AskError({ status: 0, code: 'LOGGED_OUT' }) })
      return
    }
    this.#recoveries.push(now)
    this.reload()
  }

  #remove () {
    clearTimeout(this.#timer)
    this.#asking.abort()
    this.#frame?.remove()
    this.#frame = undefined
  }
}
