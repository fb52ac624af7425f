import type { Problem, Waiting } from './request.js'

/** About a URL, without the URL itself. */
export interface Renewal {
  /** Opaque id of the URL. */
  urlId: string
  /** Whether it was minted for this request. */
  source: 'minted' | 'reused'
  /** ISO 8601, by the server's clock. */
  expiresAt: string
  /** Whole seconds. */
  expiresIn: number
}

/** A session has ended, or could not be opened with an invalid or denied URL. */
export interface Expiry {
  /** Opaque id of the session's URL. */
  urlId: string
  /** How it ended; `logout` without a status: by the user, in the app. */
  reason: 'logout' | 'navigated' | 'timeup'
  /** Status that ToolJet reported, if any. */
  status?: number | undefined
}

/** Events of `<tooljet-embed>`. None of them bubbles. */
export interface TooljetEmbedEventMap {
  /** A URL is requested. */
  loading: CustomEvent<null>
  /** The user has to wait for a turn; sent with each answer that says so. */
  queued: CustomEvent<Waiting>
  /** The app is shown. */
  ready: CustomEvent<Renewal>
  /** The session ends in `expiresIn` seconds; `preventDefault()` delays the renewal by a few seconds. */
  beforerenew: CustomEvent<{ urlId: string, expiresIn: number }>
  /** A new frame has replaced the old one. */
  renewed: CustomEvent<Renewal>
  /** A session has ended, and its frame was removed. */
  expired: CustomEvent<Expiry>
  /** A request or frame failed, maybe in a renewal that the user does not see. */
  error: CustomEvent<Problem>
  /** An error that needs the user; sent after its `error`. */
  fatal: CustomEvent<Problem>
}
