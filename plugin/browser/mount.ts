import { TooljetEmbedElement } from './element.js'
import type { TooljetEmbedEventMap } from './events.js'
import type { RequestSettings } from './request.js'
import type { TooljetEmbedStrings } from './strings.js'

/** The element's attributes by their names in JavaScript, its properties, and listeners. */
export interface MountOptions extends RequestSettings {
  /** Alias of the app; or `appId`, or `appSlug`. */
  app?: string
  /** Id of the app. */
  appId?: string
  /** Slug of the app. */
  appSlug?: string
  /** Path of the plugin's route, or its URL when it is of another origin, which then needs CORS. @default the plugin's route, where the plugin served this module; else '/api/get-tooljet-url' */
  endpoint?: string
  /** `credentials` of the requests to the endpoint. @default 'include', or 'same-origin' when there are `headers` */
  credentials?: RequestCredentials
  /** Title of the frame, for screen readers. @default strings.title */
  frameTitle?: string
  /** A CSS length, or pixels. @default the height of the page's CSS, at least 20rem */
  height?: string | number
  /** The frame's sandbox. @default 'allow-scripts allow-same-origin allow-forms allow-popups allow-popups-to-escape-sandbox allow-downloads allow-modals' */
  sandbox?: string
  /** The frame's permissions policy; a feature without an origin is allowed for ToolJet's. @default 'clipboard-read; clipboard-write; fullscreen' */
  allow?: string
  /** `lazy`: opens when it scrolls into view. @default 'eager' */
  loading?: 'eager' | 'lazy'
  /** Seconds for an answer of the endpoint, and then for a first `load` of the frame. @default 30 */
  timeout?: number
  /** `load` events of a frame until the app is there; with fewer it is shown 5 seconds after the first. @default 2: ToolJet's opening page, then the app */
  loads?: number
  /** Sentences in place of the English ones. */
  strings?: Partial<TooljetEmbedStrings>
  /** Listeners by the event's name. */
  on?: { [Type in keyof TooljetEmbedEventMap]?: (event: TooljetEmbedEventMap[Type]) => void }
}

/** An app on a page. */
export interface MountedApp {
  /** Its element, for attributes and listeners. */
  element: TooljetEmbedElement
  /** Opens the app again. */
  reload (): void
  /** Removes the app from its container. */
  destroy (): void
}

/** Shows an app at the end of a container. */
export function mountTooljetApp (container: ParentNode, { on, ...options }: MountOptions): MountedApp {
  const element = document.createElement('tooljet-embed')
  for (const [name, value] of Object.entries(options)) {
    if (name in element) (element as unknown as Record<string, unknown>)[name] = value
    else if (value !== undefined) element.setAttribute(name.replace(/[A-Z]/g, '-$&'), value as string) // setAttribute lowers the case
  }
  for (const type in on) element.addEventListener(type, on[type as keyof TooljetEmbedEventMap] as EventListener)
  container.append(element)
  return { element, reload: () => element.reload(), destroy: () => element.remove() }
}
