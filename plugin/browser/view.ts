import { steadyTime } from './clock.js'
import { stringsOf, type OwnStrings } from './strings.js'
import { CSS } from './style.js'

/** What an element is at; its attribute `state` tells it. */
export type State = 'loading' | 'queued' | 'ready' | 'error' | 'fatal' | 'signed-out'

/** A count down is read out this often at most. */
const enum Ms { ReadOut = 60_000 }

/** By attributes: that ARIA has properties is newer in some browsers. */
function make<Tag extends keyof HTMLElementTagNameMap> (tag: Tag, attributes: Record<string, string> = {}): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag)
  for (const name in attributes) element.setAttribute(name, attributes[name]!)
  return element
}

const focus = (element: HTMLElement): void => element.focus({ preventScroll: true })
const setText = (element: HTMLElement, text: string): void => { if (element.textContent !== text) element.textContent = text }

export type View = ReturnType<typeof createView>

/** The shadow tree of an element: a frame or two, or in their place what there is to say. */
export function createView (host: HTMLElement & OwnStrings, onRetry: () => void) {
  const root = host.attachShadow({ mode: 'open' })
  const base = make('div', { part: 'base', role: 'group', tabindex: '-1' })
  const notice = make('slot')
  const icon = make('span', { 'aria-hidden': 'true' })
  const message = make('p', { part: 'message', 'aria-hidden': 'true' })
  const button = make('button', { part: 'retry', type: 'button' })
  // the notice is for the eye, and may be what the page has in its slot: this is what screen readers hear
  const live = make('p', { role: 'status', 'aria-live': 'polite' })
  let state: State | null = null
  let readOutAt = -Infinity

  // not a <style>, which a content security policy may forbid
  const sheet = new CSSStyleSheet()
  sheet.replaceSync(CSS)
  root.adoptedStyleSheets = [sheet]
  button.onclick = onRetry
  notice.append(icon, message, button)
  base.append(notice, live)
  root.append(base)

  const view = {
    /** What may change while a frame is open. */
    updateAttributes (): void {
      const title = host.getAttribute('frame-title') ?? stringsOf(host).title
      const height = host.getAttribute('height') ?? ''
      // of each pair the one that is no length is ignored
      base.style.cssText = `height:${height}px;height:${height};min-height:${height}px;min-height:${height}`
      base.setAttribute('aria-label', title)
      for (const frame of base.querySelectorAll('iframe')) frame.title = title
    },

    /**
     * Shows what differs from before, and no more.
     * @param next `null`: nothing is going on, and nothing is seen
     * @param label of the button, where there is one
     */
    show (next: State | null = null, sentence = '', label = ''): void {
      const isLoading = next === 'loading'
      const isWaiting = isLoading || next === 'queued'
      const isLeaving = !label && root.activeElement === button
      if (next !== state || isLoading) readOutAt = -Infinity
      state = next
      // a page that is morphed may have taken it away
      if (host.getAttribute('state') !== next) host[next ? 'setAttribute' : 'removeAttribute']('state', next!)
      base.setAttribute('aria-busy', `${isLoading}`)
      notice.name = next === 'fatal' ? 'error' : next ?? ''
      icon.hidden = message.hidden = next === 'ready'
      notice.hidden = !next || (icon.hidden && !label)
      icon.setAttribute('part', isWaiting ? 'spinner' : 'icon')
      setText(message, sentence)
      setText(button, label)
      button.hidden = !label
      if (isLeaving) focus(base)
      // the same once more is no news
      if (live.textContent === sentence || steadyTime() - readOutAt < Ms.ReadOut) return
      live.textContent = sentence
      readOutAt = steadyTime()
    },

    /**
     * A new frame that cannot be seen or reached yet. Without a name: ToolJet keeps its token in `window.name`. It begins
     * blank and follows a link: so the URL is neither in the page's resource timing nor in its history, and no referrer is sent.
     */
    add (url: string, origin: string, onload: () => void): HTMLIFrameElement {
      const frame = make('iframe', { part: 'frame', inert: '', title: base.getAttribute('aria-label')!, referrerpolicy: 'no-referrer' })
      frame.onload = () => {
        frame.onload = onload
        frame.setAttribute('sandbox', host.getAttribute('sandbox') ?? 'allow-scripts allow-same-origin allow-forms allow-popups allow-popups-to-escape-sandbox allow-downloads allow-modals')
        // what names no origin is for that of `src`, which there is none
        frame.allow = (host.getAttribute('allow') ?? 'clipboard-read; clipboard-write; fullscreen').replace(/[\w-]+(?=\s*(;|$))/g, `$& ${origin}`)
        const link = frame.contentDocument!.createElement('a')
        link.href = url
        link.rel = 'noreferrer'
        link.click()
      }
      base.prepend(frame)
      return frame
    },

    /** Takes a frame away; whoever was in it stays in this element. */
    drop (frame: HTMLIFrameElement | undefined): void {
      const isLeaving = frame && root.activeElement === frame
      frame?.remove()
      if (isLeaving) focus(base)
    },

    /** Shows a frame that has loaded, in the place of another. */
    reveal (frame: HTMLIFrameElement, old: HTMLIFrameElement | undefined): void {
      frame.inert = false
      view.drop(old)
      if (root.activeElement === base) focus(frame)
    },
  }
  return view
}
