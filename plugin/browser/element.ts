import { steadyTime } from './clock.js'
import type { TooljetEmbedEventMap } from './events.js'
import { keepOpen } from './keeper.js'
import { strings, type TooljetEmbedStrings } from './strings.js'
import { createView } from './view.js'

/** The plugin puts its own route's path here when it serves this module. */
const ENDPOINT = '/api/get-tooljet-url'
const TIMEOUT_S = 30
/** ToolJet's opening page, then the app: a page that stays alone was refused, or is in trouble and does not say so. */
const LOADS = 2
/** Restarts in quicker succession than this are one. */
const SETTLE_MS = 250

/** On a server there are no elements: there this module may be loaded, and does nothing. */
const Base = (globalThis.HTMLElement ?? class {}) as typeof HTMLElement

/**
 * `<tooljet-embed app="sales">`: a private ToolJet app for the signed-in user.
 *
 * Attributes: `app` or `app-id` or `app-slug`; `endpoint`; `frame-title`; `height` (a CSS length, or pixels); `sandbox`
 * and `allow` of the frame; `loading="lazy"`: not before it comes into view; `timeout`, in seconds; `loads`.
 */
export class TooljetEmbedElement extends Base {
  static readonly observedAttributes = ['app', 'app-id', 'app-slug', 'endpoint', 'frame-title', 'height', 'sandbox', 'allow', 'loading', 'timeout', 'loads']

  readonly #view = createView(this, () => this.reload())
  /** Ends what is going on. */
  #stop = (): void => {}
  #restartedAt = -Infinity
  /** Sentences in place of the English ones; holds from the next start on. */
  declare strings: Partial<TooljetEmbedStrings>

  constructor () {
    super()
    this.strings ??= {} // it may have been set before this module was loaded
  }

  connectedCallback (): void {
    this.reload()
  }

  disconnectedCallback (): void {
    this.destroy()
  }

  /** `moveBefore()` leaves the frame alone. */
  connectedMoveCallback (): void {}

  attributeChangedCallback (name: string, old: string | null, value: string | null): void {
    if (old === value || !this.hasAttribute('state')) return // the same, or not going on
    if (name === 'frame-title' || name === 'height') this.#dress()
    else this.reload()
  }

  /** Starts over with a new frame. */
  reload (): void {
    this.#stop()
    if (!this.isConnected) return
    this.#dress()
    this.#view.show('loading', this.#said.loading)
    const waitMs = this.#restartedAt + SETTLE_MS - steadyTime()
    this.#restartedAt = steadyTime()
    const timer = setTimeout(() => this.#startInSight(), waitMs)
    this.#stop = () => clearTimeout(timer)
  }

  /** Takes frame, timers, listeners and requests away, until `reload()` or until it is added to a document again. */
  destroy (): void {
    this.#stop()
    this.#view.show()
  }

  #startInSight (): void {
    if (this.#get('loading') !== 'lazy') return this.#start()
    const sight = new IntersectionObserver((entries) => {
      if (!entries.some(({ isIntersecting }) => isIntersecting)) return
      sight.disconnect()
      this.#start()
    }, { rootMargin: '200px' })
    sight.observe(this)
    this.#stop = () => sight.disconnect()
  }

  #start (): void {
    this.#stop = keepOpen(this, this.#view, {
      ask: { app: this.#get('app'), appId: this.#get('app-id'), appSlug: this.#get('app-slug') },
      endpoint: this.#get('endpoint') ?? ENDPOINT,
      timeoutMs: (Number(this.#get('timeout')) || TIMEOUT_S) * 1000,
      loads: Number(this.#get('loads')) || LOADS,
      strings: this.#said,
    })
  }

  #dress (): void {
    this.#view.dress(this.#get('frame-title') ?? this.#said.title)
  }

  get #said (): TooljetEmbedStrings {
    return { ...strings, ...this.strings } as TooljetEmbedStrings
  }

  #get (name: string): string | undefined {
    return this.getAttribute(name) ?? undefined
  }
}

/** Typed listeners. */
export interface TooljetEmbedElement {
  addEventListener<Type extends keyof TooljetEmbedEventMap> (type: Type, listener: (this: TooljetEmbedElement, event: TooljetEmbedEventMap[Type]) => unknown, options?: boolean | AddEventListenerOptions): void
  addEventListener<Type extends keyof HTMLElementEventMap> (type: Type, listener: (this: TooljetEmbedElement, event: HTMLElementEventMap[Type]) => unknown, options?: boolean | AddEventListenerOptions): void
  addEventListener (type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void
}
