import { TooljetEmbedElement } from './element.js'
import type { TooljetEmbedAttributes } from './jsx.js'

try {
  customElements.define('tooljet-embed', TooljetEmbedElement)
} catch {} // on a server, or when another copy of this module was first

declare global {
  interface HTMLElementTagNameMap {
    'tooljet-embed': TooljetEmbedElement
  }
}

export { TooljetEmbedElement }
export { mountTooljetApp, type MountedApp, type MountOptions } from './mount.js'
export { strings, type TooljetEmbedStrings } from './strings.js'
export type { Problem, RequestSettings, Waiting } from './request.js'
export type { Expiry, Renewal, TooljetEmbedEventMap } from './events.js'
export type { State as TooljetEmbedState } from './view.js'
export type { TooljetEmbedAttributes }
