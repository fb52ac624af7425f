import type { Minted } from '../tooljet/tooljet.js'

/** What is known where a URL is to be minted. */
interface MintCall {
  /** To be called right before ToolJet is; throws when the lock may have passed to another meanwhile. */
  checkLock: () => void
  /** The user has a URL for another app. */
  hasOther: boolean
  /** Milliseconds for which it has been held until now. */
  heldMs: number
}

/**
 * Mints a URL at ToolJet.
 * @returns the URL, and all names by which its app is known; or after how long to call again
 */
export type Mint = (call: MintCall) => Promise<Minted>

/** This process stood still for longer than it held the lock. */
export class LockExpired extends Error {}

/** It is not this user's turn yet, and soon will be. */
export class Held extends Error {
  constructor (readonly ms: number) {
    super()
  }
}
