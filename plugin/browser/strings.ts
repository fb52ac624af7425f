/** What the element says. A problem's sentence is looked up by its code, by its status, as `5xx`, and else as `error`. */
export interface TooljetEmbedStrings {
  /** Title of the frame. */
  title: string
  /** While the app opens. */
  loading: string
  /** When that takes longer than 8 seconds. */
  slow: string
  /** For screen readers, when the app shows. */
  ready: string
  /** After the user has logged out in the app. */
  'signed-out': string
  /** The button's label after a failure. */
  retry: string
  /** The button's label after that, and of the small one at an app that may be stuck. */
  reload: string
  /** Follows an error's sentence while it is tried again without the user's doing; `{seconds}`: until then. While it is tried, `loading` does. */
  retrying: string
  /** While others come first; `{position}` is 1 for who is next. One of the following four is behind it. */
  queued: string
  /** `{minutes}`: until the turn, 2 or more. */
  minutes: string
  /** A minute until the turn. */
  minute: string
  /** Less than that. */
  soon: string
  /** The queue stands still. */
  stalled: string
  /** For a problem without a sentence of its own. */
  error: string
  /** Sentences by code or status, that by 403 only for the plugin's own codes; `{seconds}` is the time until the next try. */
  [codeOrStatus: string]: string
}

/** English. Assign to it to translate every element of a page. */
export const strings: TooljetEmbedStrings = {
  title: 'ToolJet app',
  loading: 'Opening the app…',
  slow: 'This takes longer than usual…',
  ready: 'The app is open.',
  'signed-out': 'You have signed out of this app.',
  retry: 'Try again',
  reload: 'Reload',
  retrying: 'Trying again in {seconds} s.',
  queued: 'You are number {position} in line.',
  minutes: 'About {minutes} minutes.',
  minute: 'About 1 minute.',
  soon: 'Less than a minute.',
  stalled: 'ToolJet does not answer at the moment.',
  error: 'The app cannot be opened.',
  401: 'Your session has ended. Sign in again.',
  403: 'You have no access to this app. Ask your administrator.',
  404: 'The app, or your account, cannot be found. Ask your administrator.',
  429: 'Too many requests.',
  '5xx': 'The app cannot be reached.',
  OFFLINE: 'You are offline.',
  UNREACHABLE: 'This site does not answer.',
  SILENT: 'The app does not answer.',
  LOOP: 'The app ends its session again and again.',
  NOT_AVAILABLE: 'This app is not available. Ask your administrator.',
  BLOCKED_BY_CSP: 'This site does not allow the app. Ask your administrator.',
}

/** What has sentences of its own. */
export interface OwnStrings {
  strings?: Partial<TooljetEmbedStrings> | undefined
}

/** A code of the page's own server may be `constructor`: nothing is inherited. */
export function stringsOf (host: OwnStrings): TooljetEmbedStrings {
  return { __proto__: null, ...strings, ...host.strings } as unknown as TooljetEmbedStrings
}
