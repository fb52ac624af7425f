import { createHmac } from 'node:crypto'
import { memoized } from '../memoized.js'

const MAX_USERS = 10_000
/** Of base64url: 132 bits. */
const HASH_CHARACTERS = 22

/** Keyed hashes that stand for users and for their ToolJet in the names of Redis keys; they reveal nothing without the key. */
export class KeyNames {
  /** 22 characters of base64url for a user of this ToolJet. */
  readonly userHash: (email: string) => string
  readonly #toolJetHash: string

  /**
   * @param namesKey of purpose `key names`
   * @param toolJetIdentity identifies this ToolJet; the same user has another hash for another identity
   * @param maxUsers number of users whose hash is kept
   */
  constructor (namesKey: Buffer, toolJetIdentity: string, maxUsers = MAX_USERS) {
    const userKey = hmac(namesKey, `user\n${toolJetIdentity}`)
    this.userHash = memoized(maxUsers, (email) => hashOf(userKey, email))
    this.#toolJetHash = hashOf(namesKey, `tooljet\n${toolJetIdentity}`)
  }

  /** 22 characters of base64url for this ToolJet. */
  toolJetHash (): string {
    return this.#toolJetHash
  }
}

function hmac (key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}

function hashOf (key: Buffer, text: string): string {
  return hmac(key, text).toString('base64url').slice(0, HASH_CHARACTERS)
}
