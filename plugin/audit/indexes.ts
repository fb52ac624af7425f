import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'

/**
 * Keys that belong to a stream, in its slot: for each e-mail and each app a small stream with the ids of its events,
 * so that a query reads these and not the whole log. `queries.lua` names them the same way.
 */
export class AuditKeys {
  readonly #start: string

  constructor (readonly stream: string) {
    this.#start = hasTag(stream) ? stream : `{${stream}}`
  }

  email (email: string): string {
    return `${this.#start}:email:${nameOf(email)}`
  }

  app (app: string): string {
    return `${this.#start}:app:${app}`
  }

  /** The last seq of an instance that is written: a batch that is sent again adds nothing. */
  written (instance: string): string {
    return `${this.#start}:written:${instance}`
  }
}

const names = new LRUCache<string, string>({ max: 10_000 })

/** What stands for an e-mail in the name of its index: key names carry none. */
function nameOf (email: string): string {
  let name = names.get(email)
  if (name === undefined) names.set(email, name = createHash('sha1').update(email).digest('hex').slice(0, 20))
  return name
}

/** Whether Redis Cluster takes but a part of the name for the slot. */
function hasTag (key: string): boolean {
  return /^[^{]*\{[^}]+\}/.test(key)
}

/** Braces in any other place would put the indexes into another slot than the stream. */
export const STREAM_NAME = /^(?=.)[^{}\s]*(?:\{[^{}\s]+\}[^{}\s]*)?$/
