import { LRUCache } from 'lru-cache'
import { secondsLeft, type HeldUrl } from './store.js'

const MAX_URLS = 10_000

/** This instance's own memory of URLs that it minted or saw: asked only while Redis is away. */
export class UrlMemory {
  readonly #urls = new LRUCache<string, HeldUrl>({ max: MAX_URLS })

  get (key: string): HeldUrl | undefined {
    const url = this.#urls.get(key)
    if (url !== undefined && secondsLeft(url) <= 0) {
      this.#urls.delete(key)
      return undefined
    }
    return url
  }

  remember (key: string, url: HeldUrl): void {
    this.#urls.set(key, url)
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
