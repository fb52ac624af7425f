import type { Spelling } from '../tooljet/spellings.js'
import type { Minted } from '../tooljet/tooljet.js'

/** What the cache tells the mint. */
interface MintCall {
  /** To be called right before ToolJet is called. @throws LockExpired when another process may have the lock by now */
  checkLock: () => void
  /** The user has a URL for another app. */
  hasOther: boolean
  /** Milliseconds for which this mint has been held back until now. */
  heldMs: number
  /** What `keepSpelling` took in an earlier mint for this user, of any app. */
  spelling: Spelling | undefined
  /** Keeps with the user how to spell the e-mail for ToolJet; `undefined`: what was kept before. */
  keepSpelling: (spelling: Spelling | undefined) => void
}

/**
 * Mints a URL at ToolJet.
 * @returns the URL and all names of its app, or the time after which to call again
 */
export type Mint = (call: MintCall) => Promise<Minted>

/** This process was suspended for longer than its lock lasts. */
export class LockExpired extends Error {}

/** It will soon be this user's turn: the mint is held back for `ms`. */
export class Held extends Error {
  constructor (readonly ms: number) {
    super()
  }
}
