import type { TooljetEmbedElement } from './element.js'
import type { TooljetEmbedEventMap } from './events.js'
import type { RequestSettings } from './request.js'
import type { TooljetEmbedStrings } from './strings.js'

/** `<tooljet-embed>` in TSX: the attributes and properties that `MountOptions` describes by their names in JavaScript. */
export interface TooljetEmbedAttributes extends RequestSettings {
  app?: string
  'app-id'?: string
  'app-slug'?: string
  endpoint?: string
  credentials?: RequestCredentials
  'frame-title'?: string
  height?: string | number
  sandbox?: string
  allow?: string
  loading?: 'eager' | 'lazy'
  timeout?: string | number
  loads?: string | number
  strings?: Partial<TooljetEmbedStrings>
}

/** Listeners as React 19 names them: `onfatal`. */
type Listeners = { [Type in keyof TooljetEmbedEventMap as `on${Type}`]?: (event: TooljetEmbedEventMap[Type]) => void }

declare global {
  namespace JSX {
    interface IntrinsicElements {
      'tooljet-embed': TooljetEmbedAttributes & { [attribute: string]: unknown }
    }
  }
}

/** @ts-ignore: React 19 looks here; without React the module does not exist */
declare module 'react' {
  namespace JSX {
    interface IntrinsicElements {
      /** @ts-ignore */
      'tooljet-embed': TooljetEmbedAttributes & Listeners & DetailedHTMLProps<HTMLAttributes<TooljetEmbedElement>, TooljetEmbedElement>
    }
  }
}
