import { LRUCache } from 'lru-cache'
import { secondsLeft, type HeldUrl } from './store.js'

const MAX_URLS = 10_000

export interface RememberedUrl extends HeldUrl {
  unsavedAs: string[] | undefined
}

/** This instance's own memory of URLs that it minted or saw: asked only while Redis is away, and right after. */
export class UrlMemory {
  readonly #urls = new LRUCache<string, RememberedUrl>({ max: MAX_URLS })

  get (key: string): RememberedUrl | undefined {
    const url = this.#urls.get(key)
    if (url !== undefined && secondsLeft(url) <= 0) {
      this.#urls.delete(key)
      return undefined
    }
    return url
  }

  /** @param unsavedAs names of its app, for a URL that Redis has not got */
  remember (key: string, url: HeldUrl, unsavedAs?: string[]): void {
    this.#urls.set(key, { ...url, unsavedAs })
  }

  drop (key: string): void {
    this.#urls.delete(key)
  }

  /** Drops all keys with this start. */
  dropAll (start: string): void {
    for (const key of this.#urls.keys()) {
      if (key.startsWith(start)) this.#urls.delete(key)
    }
  }
}
