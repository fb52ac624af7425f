/** Sentences of the element. A problem's sentence is looked up by its code, then by its status, then as `5xx`, and else as `error`. */
export interface TooljetEmbedStrings {
  /** Title of the frame. */
  title: string
  /** While the app opens. */
  loading: string
  /** When that takes longer than 8 seconds. */
  slow: string
  /** For screen readers, when the app is shown. */
  ready: string
  /** After the user has logged out in the app. */
  'signed-out': string
  /** The button's label after a failure. */
  retry: string
  /** The button's label after a log-out, and of the small button at an app that may be stuck. */
  reload: string
  /** Follows an error's sentence before an automatic retry, `{seconds}` from now. During the retry, `loading` follows it. */
  retrying: string
  /** While the user waits for a turn; `{position}` 1 is next. One of the following four follows it. */
  queued: string
  /** `{minutes}` until the turn, 2 or more. */
  minutes: string
  /** One minute until the turn. */
  minute: string
  /** Less than a minute until the turn. */
  soon: string
  /** The queue stands still. */
  stalled: string
  /** For a problem without a sentence of its own. */
  error: string
  /** Sentences by code or status (403 only for the plugin's own codes); `{seconds}` is the time until the next retry. */
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

/** A host with sentences of its own. */
export interface OwnStrings {
  strings?: Partial<TooljetEmbedStrings> | undefined
}

/** Without a prototype, because a code of the page's own server may be `constructor`. */
export function stringsOf (host: OwnStrings): TooljetEmbedStrings {
  return { __proto__: null, ...strings, ...host.strings } as unknown as TooljetEmbedStrings
}
