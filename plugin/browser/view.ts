import { steadyTime } from './clock.js'
import { CSS } from './style.js'

export type State = 'loading' | 'queued' | 'ready' | 'error' | 'fatal'

/** What ToolJet's pages need. */
const SANDBOX = 'allow-scripts allow-same-origin allow-forms allow-popups allow-downloads'
/** A count down is read out this often at most. */
const READ_OUT_MS = 60_000

function make<Tag extends keyof HTMLElementTagNameMap> (tag: Tag, properties?: object): HTMLElementTagNameMap[Tag] {
  return Object.assign(document.createElement(tag), properties)
}

const focus = (element: HTMLElement): void => element.focus({ preventScroll: true })

export type View = ReturnType<typeof createView>

/** The shadow tree of an element: a frame or two, or in their place what there is to say. */
export function createView (host: HTMLElement, onRetry: () => void) {
  const root = host.attachShadow({ mode: 'open' })
  const base = make('div', { part: 'base', role: 'group', tabIndex: -1 })
  const notice = make('slot')
  const icon = make('span', { ariaHidden: 'true' })
  const message = make('p', { part: 'message', ariaHidden: 'true' })
  const retryButton = make('button', { part: 'retry', type: 'button', onclick: onRetry })
  // the notice is for the eye, and may be what the page has in its slot: this is what screen readers hear
  const live = make('p', { role: 'status', ariaLive: 'polite' })
  let readOutAt = -Infinity

  // not a <style>, which a content security policy may forbid
  const sheet = new CSSStyleSheet()
  sheet.replaceSync(CSS)
  root.adoptedStyleSheets = [sheet]
  notice.append(icon, message, retryButton)
  base.append(notice, live)
  root.append(base)

  return {
    /** What may change while a frame is open. */
    dress (title: string): void {
      const height = host.getAttribute('height') ?? ''
      base.style.height = base.style.minHeight = /^\d+$/.test(height) ? `${height}px` : height
      base.ariaLabel = title
      for (const frame of base.querySelectorAll('iframe')) frame.title = title
    },

    /** @param state `undefined`: nothing is going on, and nothing is seen */
    show (state?: State, sentence = '', retry = ''): void {
      const isLoading = state === 'loading'
      const isWaiting = state === 'queued'
      const isLeaving = !retry && root.activeElement === retryButton
      if (!isWaiting || host.getAttribute('state') !== state) readOutAt = -Infinity
      if (state) host.setAttribute('state', state)
      else host.removeAttribute('state')
      base.ariaBusy = String(isLoading)
      notice.name = isLoading || isWaiting ? state : 'error'
      notice.hidden = !state || state === 'ready'
      Object.assign(icon, isLoading || isWaiting ? { part: 'spinner', textContent: '' } : { part: 'icon', textContent: '!' })
      this.say(sentence)
      retryButton.textContent = retry
      retryButton.hidden = !retry
      if (isLeaving) focus(base)
    },

    /** Changes no more than the sentence. */
    say (sentence: string): void {
      if (message.textContent !== sentence) message.textContent = sentence
      // the same once more is no news
      if (live.textContent === sentence || steadyTime() - readOutAt < READ_OUT_MS) return
      live.textContent = sentence
      readOutAt = steadyTime()
    },

    /** A new frame that cannot be seen or reached yet. Without a name: ToolJet keeps its token in `window.name`. */
    add (src: string, onload: () => void): HTMLIFrameElement {
      const frame = make('iframe', {
        part: 'frame',
        inert: true,
        title: base.ariaLabel,
        referrerPolicy: 'no-referrer',
        sandbox: host.getAttribute('sandbox') ?? SANDBOX,
        allow: host.getAttribute('allow') ?? '',
        onload,
        src,
      })
      base.prepend(frame)
      return frame
    },

    /** Takes a frame away; whoever was in it stays in this element. */
    remove (frame: HTMLIFrameElement | undefined): void {
      const isLeaving = frame && root.activeElement === frame
      frame?.remove()
      if (isLeaving) focus(base)
    },

    /** Shows a frame that has loaded, in the place of another. */
    reveal (frame: HTMLIFrameElement, old: HTMLIFrameElement | undefined): void {
      frame.inert = false
      this.remove(old)
      if (root.activeElement === base) focus(frame)
    },
  }
}
