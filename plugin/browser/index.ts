import { TooljetEmbedElement } from './element.js'
import type { TooljetEmbedAttributes } from './jsx.js'

const registry = globalThis.customElements as CustomElementRegistry | undefined
if (!registry?.get('tooljet-embed')) registry?.define('tooljet-embed', TooljetEmbedElement)

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
