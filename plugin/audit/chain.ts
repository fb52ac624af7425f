import { createHmac, createSecretKey, timingSafeEqual, type KeyObject } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { AuditFields } from './event.js'

/** The mac before an instance's first event. */
export const CHAIN_START = ''

/**
 * Authenticates events: each mac covers the mac before it and all fields of its own event, so that a changed,
 * missing, reordered or forged event shows.
 */
export class Chain {
  readonly #keys: readonly KeyObject[]

  /** @param keys of purpose `audit`; the first makes macs, all check them */
  constructor (keys: readonly Buffer[]) {
    this.#keys = keys.map((key) => createSecretKey(key))
  }

  mac (previous: string, fields: AuditFields): string {
    return macWith(this.#keys[0]!, previous, fields, ownNames(fields))
  }

  holds (previous: string, fields: AuditFields): boolean {
    const given = Buffer.from(fields['mac'] ?? '')
    const names = sortedNames(fields)
    return this.#keys.some((key) => {
      const expected = Buffer.from(macWith(key, previous, fields, names))
      return given.length === expected.length && timingSafeEqual(given, expected)
    })
  }
}

function macWith (key: KeyObject, previous: string, fields: AuditFields, names: readonly string[]): string {
  const sorted = names.map((name) => [name, fields[name]])
  return createHmac('sha256', key).update(JSON.stringify([previous, sorted])).digest('base64url')
}

/** Names of an event's fields, without `mac`. */
function sortedNames (fields: AuditFields): string[] {
  return Object.keys(fields).filter((name) => name !== 'mac').sort()
}

/** Our own events have but a few sets of fields; what is in the stream may have any, made to be taken for another. */
const sortedBefore = new LRUCache<string, string[]>({ max: 100 })

function ownNames (fields: AuditFields): string[] {
  const known = Object.keys(fields).join()
  let sorted = sortedBefore.get(known)
  if (sorted === undefined) sortedBefore.set(known, sorted = sortedNames(fields))
  return sorted
}
