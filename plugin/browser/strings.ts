/** What the element says. A problem's sentence is looked up by its code, by its status, as `5xx`, and else as `error`. */
export interface TooljetEmbedStrings {
  /** Title of the frame. */
  title: string
  /** While the app opens. */
  loading: string
  /** For screen readers, when the app shows. */
  ready: string
  /** The button's label. */
  retry: string
  /** Follows an error's sentence while it is tried again without the user's doing. */
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
  /** Sentences by code or status; `{seconds}` is the time until the next try. */
  [codeOrStatus: string]: string
}

/** English. Assign to it to translate every element of a page. */
export const strings: TooljetEmbedStrings = {
  title: 'ToolJet app',
  loading: 'Opening the app…',
  ready: 'The app is open.',
  retry: 'Try again',
  retrying: 'This page keeps trying.',
  queued: 'You are number {position} in line.',
  minutes: 'About {minutes} minutes.',
  minute: 'About 1 minute.',
  soon: 'Less than a minute.',
  stalled: 'ToolJet does not answer at the moment.',
  error: 'The app cannot be opened.',
  401: 'Your session has ended. Sign in again.',
  403: 'You have no access to this app. Ask your administrator.',
  404: 'The app, or your account, cannot be found. Ask your administrator.',
  429: 'Too many requests. The next is in {seconds} seconds.',
  '5xx': 'The app cannot be reached.',
  OFFLINE: 'You are offline.',
  UNREACHABLE: 'This site does not answer.',
  SILENT: 'The app does not answer.',
  LOOP: 'The app ends its session again and again.',
}
