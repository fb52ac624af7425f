import { createHmac, hkdfSync } from 'node:crypto'
import { LRUCache } from 'lru-cache'

/** A 32-byte key for one purpose out of a secret of any length. */
export function deriveKey (secret: string, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, 'fastify-tooljet-embed', purpose, 32))
}

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

const MAX_USERS = 10_000

/** Names keys. A key carries a keyed hash in place of the e-mail. */
export class Keys {
  readonly #prefix: string
  readonly #secret: Buffer
  readonly #tooljetUrl: string
  readonly #userHashes: LRUCache<string, string>

  /**
   * The hash depends on the API token and not on `encryptionKey`, so that rotating the latter moves no key.
   * @param maxUsers whose hash is kept at hand; memory for them is taken at once
   */
  constructor (prefix: string, tooljet: { url: string, apiToken: string }, maxUsers = MAX_USERS) {
    this.#userHashes = new LRUCache({ max: maxUsers })
    this.#prefix = prefix
    this.#secret = deriveKey(tooljet.apiToken, 'key names')
    this.#tooljetUrl = tooljet.url
  }

  /** What stands for a user of this ToolJet in key names. */
  userHash (email: string): string {
    let hash = this.#userHashes.get(email)
    if (hash === undefined) {
      hash = createHmac('sha256', this.#secret).update(`${this.#tooljetUrl}\n${email}`).digest('base64url').slice(0, 22)
      this.#userHashes.set(email, hash)
    }
    return hash
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
    const tooljet = createHmac('sha256', this.#secret).update(this.#tooljetUrl).digest('base64url').slice(0, 22)
    const tag = `{${this.#prefix}tooljet:${tooljet}}`
    return { pause: `${tag}:pause`, failures: `${tag}:failures`, probe: `${tag}:probe` }
  }

  #tag (user: string): string {
    return `{${this.#prefix}${user}}`
  }
}
