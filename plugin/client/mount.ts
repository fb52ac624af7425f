import { TooljetEmbedElement } from './element.js'
import type { TooljetEmbedEventMap } from './events.js'
import type { TooljetEmbedStrings } from './strings.js'

/** The element's attributes by their names in JavaScript, its sentences, and listeners. */
export interface MountOptions {
  app?: string
  appId?: string
  appSlug?: string
  /** @default the plugin's route, where the plugin served this module; else '/api/get-tooljet-url' */
  endpoint?: string
  /** @default strings.title */
  frameTitle?: string
  /** A CSS length, or pixels. @default what the page's CSS says, at least 20rem */
  height?: string | number
  /** @default 'allow-scripts allow-same-origin allow-forms allow-popups allow-downloads' */
  sandbox?: string
  allow?: string
  loading?: 'eager' | 'lazy'
  /** Seconds for an answer of the endpoint, and then for the app to load. @default 30 */
  timeout?: number
  /** `load` events of a frame until the app is there. @default 2: ToolJet's opening page, then the app */
  loads?: number
  strings?: Partial<TooljetEmbedStrings>
  on?: { [Type in keyof TooljetEmbedEventMap]?: (event: TooljetEmbedEventMap[Type]) => void }
}

export interface MountedApp {
  element: TooljetEmbedElement
  reload (): void
  /** Takes the app out of its container. */
  destroy (): void
}

/** Shows an app at the end of a container. */
export function mountTooljetApp (container: ParentNode, { strings, on, ...attributes }: MountOptions): MountedApp {
  const element = document.createElement('tooljet-embed')
  if (strings) element.strings = strings
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) element.setAttribute(name.replace(/[A-Z]/g, '-$&'), String(value)) // which lowers the case
  }
  for (const type in on) element.addEventListener(type, on[type as keyof TooljetEmbedEventMap] as EventListener)
  container.append(element)
  return { element, reload: () => element.reload(), destroy: () => element.remove() }
}
