import type { KeyNames } from '../crypto/names.js'

/** What one (user, app) is called. Its Redis keys share the user's hash tag, so that one script may touch them in Redis Cluster too. */
export interface PairKeys {
  /** A `userHash`. */
  user: string
  appKey: string
  /** For this process's own maps. */
  name: string
  /** Held by the one who mints. */
  lock: string
  /** How the last mint failed: a denial for everyone, any other failure for those who waited for it. */
  outcome: string
  /** Hash of all of this user's URLs: app key to URL id. The scripts derive further keys from its name. */
  index: string
}

/** Names keys. A key carries a keyed hash in place of the e-mail. */
export class Keys {
  readonly #prefix: string
  readonly #names: KeyNames

  constructor (prefix: string, names: KeyNames) {
    this.#prefix = prefix
    this.#names = names
  }

  /** What stands for a user of this ToolJet in key names. */
  userHash (email: string): string {
    return this.#names.userHash(email)
  }

  /** @param user a `userHash` */
  index (user: string): string {
    return `${this.#tag(user)}:urls`
  }

  /**
   * A sealed URL.
   * @param user a `userHash`
   */
  url (user: string, urlId: string): string {
    return `${this.#tag(user)}:url:${urlId}`
  }

  /** @param user a `userHash` */
  pair (user: string, appKey: string): PairKeys {
    const tag = this.#tag(user)
    return {
      user,
      appKey,
      name: `${tag}:${appKey}`,
      lock: `${tag}:lock:${appKey}`,
      outcome: `${tag}:outcome:${appKey}`,
      index: `${tag}:urls`,
    }
  }

  /** One set for all who use the same ToolJet. */
  gate (): { pause: string, failures: string, probe: string } {
    const tag = `{${this.#prefix}tooljet:${this.#names.toolJetHash()}}`
    return { pause: `${tag}:pause`, failures: `${tag}:failures`, probe: `${tag}:probe` }
  }

  #tag (user: string): string {
    return `{${this.#prefix}${user}}`
  }
}
