import { LRUCache } from 'lru-cache'
import type { App } from '../access/apps.js'
import type { Timers } from '../timers.js'
import type { Spelling } from '../tooljet/spellings.js'
import { concerns, secondsLeft, type CachedUrl } from './cached-url.js'

const MAX_USERS = 10_000
const MAX_APPS_EACH = 100

export interface MemoryEntry extends CachedUrl {
  /** Not in Redis yet. */
  isUnsaved: boolean
}

/**
 * This instance's own memory of URLs that Redis confirmed, or that it minted while Redis was unavailable. They are served
 * only during an outage; otherwise the memory saves a decryption. And of how it spelled e-mails for ToolJet.
 */
export class LocalCache {
  readonly #users: LRUCache<string, Map<string, MemoryEntry>>
  readonly #spellings = new Map<string, Spelling>()
  readonly #maxUsers: number
  readonly #timers: Timers

  constructor (timers: Timers, maxUsers = MAX_USERS) {
    this.#users = new LRUCache({ max: maxUsers })
    this.#maxUsers = maxUsers
    this.#timers = timers
  }

  get (user: string, app: App): MemoryEntry | undefined {
    const entry = this.#users.get(user)?.get(app.key)
    if (entry !== undefined && secondsLeft(app, entry, this.#timers.now()) <= 0) {
      this.drop(user, app)
      return undefined
    }
    return entry
  }

  set (user: string, app: App, url: CachedUrl, { isUnsaved }: { isUnsaved: boolean }): void {
    let apps = this.#users.get(user)
    if (apps === undefined) this.#users.set(user, apps = new Map())
    if (apps.size >= MAX_APPS_EACH && !apps.has(app.key)) apps.delete(apps.keys().next().value!)
    apps.set(app.key, Object.assign(url, { isUnsaved }))
  }

  spellingOf (user: string): Spelling | undefined {
    return this.#spellings.get(user)
  }

  keepSpelling (user: string, spelling: Spelling | undefined): void {
    this.#spellings.delete(user) // the oldest come first
    if (spelling === undefined) return
    this.#spellings.set(user, spelling)
    if (this.#spellings.size > this.#maxUsers) this.#spellings.delete(this.#spellings.keys().next().value!)
  }

  drop (user: string, app: App): void {
    this.#users.get(user)?.delete(app.key)
  }

  /** @param isForgotten whether the mint of an entry with these names began early enough to be concerned */
  forget (user: string, names: readonly string[], isForgotten: (url: MemoryEntry) => boolean): void {
    const apps = this.#users.get(user)
    for (const [key, entry] of apps ?? []) {
      if (names.some((name) => concerns(entry.names, name)) && isForgotten(entry)) apps!.delete(key)
    }
  }
}
