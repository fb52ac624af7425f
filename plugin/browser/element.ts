import { monotonicNow } from './clock.js'
import type { TooljetEmbedEventMap } from './events.js'
import type { RequestSettings } from './request.js'
import { startSession } from './session-controller.js'
import type { TooljetEmbedStrings } from './strings.js'
import { createView } from './view.js'

/** Restarts within this time are joined. */
const enum Ms { Settle = 250 }

/** So that the module can also be imported on a server, where it does nothing. */
const Base = (globalThis.HTMLElement ?? class {}) as typeof HTMLElement

/**
 * `<tooljet-embed app="sales">`: a private ToolJet app for the signed-in user.
 *
 * Attributes: `app` or `app-id` or `app-slug`; `endpoint` and `credentials` of the requests to it; `frame-title`; `height`
 * (a CSS length, or pixels); `sandbox` and `allow` of the frame; `loading="lazy"`: opens when it scrolls into view; `timeout`,
 * in seconds; `loads`. Attribute `state` is for the page to read.
 */
export class TooljetEmbedElement extends Base {
  static readonly observedAttributes = 'app app-id app-slug endpoint credentials frame-title height sandbox allow loading timeout loads'.split(' ')

  readonly #view = createView(this, () => this.reload())
  /** Stops the running session. */
  #stop: (() => void) | undefined
  #restartedAt = -Infinity
  /** Sentences in place of the English ones; used from the next start on. */
  declare strings: Partial<TooljetEmbedStrings> | undefined
  /** Headers of each request, or a function that returns them; used from the next request on. */
  declare headers: RequestSettings['headers']
  /** Replaces the page's `fetch`. */
  declare fetch: RequestSettings['fetch']

  connectedCallback (): void {
    this.reload()
  }

  disconnectedCallback (): void {
    this.destroy()
  }

  /** Defined so that `moveBefore()` keeps the frame. */
  connectedMoveCallback (): void {}

  attributeChangedCallback (name: string, old: string | null, value: string | null): void {
    if (old === value || !this.#stop) return
    if (/title|height/.test(name)) this.#view.updateAttributes()
    else this.reload()
  }

  /** Starts over with a new frame. */
  reload (): void {
    this.#stop?.()
    if (!this.isConnected) return
    this.#view.updateAttributes()
    const waitMs = this.#restartedAt + Ms.Settle - monotonicNow()
    this.#restartedAt = monotonicNow()
    this.#stop = startSession(this, this.#view, waitMs)
  }

  /** Removes frame, timers, listeners and requests, until `reload()` or until the element is added to a document again. */
  destroy (): void {
    this.#stop?.()
    this.#stop = undefined
    this.#view.show()
  }
}

// on the prototype, where React and Vue look for properties; not as class fields, which would overwrite what a page has set before this module was loaded
TooljetEmbedElement.prototype.headers = TooljetEmbedElement.prototype.fetch = TooljetEmbedElement.prototype.strings = undefined

/** Typed listeners. */
export interface TooljetEmbedElement {
  addEventListener<Type extends keyof TooljetEmbedEventMap> (type: Type, listener: (this: TooljetEmbedElement, event: TooljetEmbedEventMap[Type]) => unknown, options?: boolean | AddEventListenerOptions): void
  addEventListener<Type extends keyof HTMLElementEventMap> (type: Type, listener: (this: TooljetEmbedElement, event: HTMLElementEventMap[Type]) => unknown, options?: boolean | AddEventListenerOptions): void
  addEventListener (type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void
}
