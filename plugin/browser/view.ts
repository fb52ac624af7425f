import { monotonicNow } from './clock.js'
import { stringsOf, type OwnStrings } from './strings.js'
import { CSS } from './style.js'

/** State of an element, also in its attribute `state`. */
export type State = 'loading' | 'queued' | 'ready' | 'error' | 'fatal' | 'signed-out'

/** A countdown is read out this often at most. */
const enum Ms { ReadOut = 60_000 }

/** Creates an element. By attributes, because some browsers have no ARIA properties yet. */
function make<Tag extends keyof HTMLElementTagNameMap> (tag: Tag, attributes: Record<string, string> = {}): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag)
  for (const name in attributes) element.setAttribute(name, attributes[name]!)
  return element
}

const focus = (element: HTMLElement): void => element.focus({ preventScroll: true })
const setText = (element: HTMLElement, text: string): void => { if (element.textContent !== text) element.textContent = text }

export type View = ReturnType<typeof createView>

/** The shadow tree of an element: the frames, or a notice in their place. */
export function createView (host: HTMLElement & OwnStrings, onRetry: () => void) {
  const root = host.attachShadow({ mode: 'open' })
  const base = make('div', { part: 'base', role: 'group', tabindex: '-1' })
  const notice = make('slot')
  const icon = make('span', { 'aria-hidden': 'true' })
  const message = make('p', { part: 'message', 'aria-hidden': 'true' })
  const button = make('button', { part: 'retry', type: 'button' })
  // the notice is visual only, and may be replaced by the page's slot: screen readers get this one
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
    /** Applies the attributes that may change while a frame is open. */
    updateAttributes (): void {
      const title = host.getAttribute('frame-title') ?? stringsOf(host).title
      const height = host.getAttribute('height') ?? ''
      // the browser ignores the one of each pair that is not a valid length
      base.style.cssText = `height:${height}px;height:${height};min-height:${height}px;min-height:${height}`
      base.setAttribute('aria-label', title)
      for (const frame of base.querySelectorAll('iframe')) frame.title = title
    },

    /**
     * Updates the notice where it differs.
     * @param next `null` hides everything
     * @param label of the button; '' for none
     */
    show (next: State | null = null, sentence = '', label = ''): void {
      const isLoading = next === 'loading'
      const isWaiting = isLoading || next === 'queued'
      const isLeaving = !label && root.activeElement === button
      if (next !== state || isLoading) readOutAt = -Infinity
      state = next
      // a library that morphs the page may have removed it
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
      // the same text is not read out again
      if (live.textContent === sentence || monotonicNow() - readOutAt < Ms.ReadOut) return
      live.textContent = sentence
      readOutAt = monotonicNow()
    },

    /**
     * Adds a frame that is not visible or reachable yet. Without a name, because ToolJet keeps its token in `window.name`. It
     * begins blank and follows a link, so the URL is neither in resource timing nor in the history, and no referrer is sent.
     */
    add (url: string, origin: string, onload: () => void): HTMLIFrameElement {
      const frame = make('iframe', { part: 'frame', inert: '', title: base.getAttribute('aria-label')!, referrerpolicy: 'no-referrer' })
      frame.onload = () => {
        frame.onload = onload
        frame.setAttribute('sandbox', host.getAttribute('sandbox') ?? 'allow-scripts allow-same-origin allow-forms allow-popups allow-popups-to-escape-sandbox allow-downloads allow-modals')
        // a feature without an origin would be for that of `src`, which is not set
        frame.allow = (host.getAttribute('allow') ?? 'clipboard-read; clipboard-write; fullscreen').replace(/[\w-]+(?=\s*(;|$))/g, `$& ${origin}`)
        const link = frame.contentDocument!.createElement('a')
        link.href = url
        link.rel = 'noreferrer'
        link.click()
      }
      base.prepend(frame)
      return frame
    },

    /** Removes a frame; a focus in it moves to this element. */
    drop (frame: HTMLIFrameElement | undefined): void {
      const isLeaving = frame && root.activeElement === frame
      frame?.remove()
      if (isLeaving) focus(base)
    },

    /** Shows a loaded frame in place of another. */
    reveal (frame: HTMLIFrameElement, old: HTMLIFrameElement | undefined): void {
      frame.inert = false
      view.drop(old)
      if (root.activeElement === base) focus(frame)
    },
  }
  return view
}
