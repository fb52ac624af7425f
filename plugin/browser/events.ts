import type { Problem, Waiting } from './request.js'

/** About a URL; the URL itself is told to nobody. */
export interface Renewal {
  /** Opaque id of the URL. */
  urlId: string
  /** Whether ToolJet was asked for it just now. */
  source: 'minted' | 'reused'
  /** ISO 8601, by the server's clock. */
  expiresAt: string
  /** Whole seconds. */
  expiresIn: number
}

/** A session is over, or a URL that is dead or denied opened none. */
export interface Expiry {
  /** Opaque id of the session's URL. */
  urlId: string
  /** How it ended; `logout` without a status: by the user, in the app. */
  reason: 'logout' | 'navigated' | 'timeup'
  /** ToolJet's, where it said one. */
  status?: number | undefined
}

/** Events of `<tooljet-embed>`. None of them bubbles. */
export interface TooljetEmbedEventMap {
  /** A URL is asked for. */
  loading: CustomEvent<null>
  /** There is no app to see before it is this user's turn; comes with each answer that says so. */
  queued: CustomEvent<Waiting>
  /** The app shows. */
  ready: CustomEvent<Renewal>
  /** The session ends in `expiresIn` seconds; `preventDefault()` puts its renewal off by a few. */
  beforerenew: CustomEvent<{ urlId: string, expiresIn: number }>
  /** A new frame has taken the place of the old one. */
  renewed: CustomEvent<Renewal>
  /** A session is over, and its frame is gone. */
  expired: CustomEvent<Expiry>
  /** Something failed, maybe a renewal that the user did not see. */
  error: CustomEvent<Problem>
  /** An error that does not go away by itself; comes after its `error`. */
  fatal: CustomEvent<Problem>
}
