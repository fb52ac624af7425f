import { createHmac, createSecretKey, timingSafeEqual, type KeyObject } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { deriveKey } from '../urls/keys.js'
import type { AuditFields } from './event.js'

/** The mac before an instance's first event. */
export const CHAIN_START = ''

/**
 * Authenticates events: each mac covers the mac before it and all fields of its own event, so that a changed,
 * missing, reordered or forged event shows.
 */
export class Chain {
  readonly #keys: readonly KeyObject[]

  /** @param secrets the first makes macs, all check them */
  constructor (secrets: readonly string[]) {
    this.#keys = secrets.map((secret) => createSecretKey(deriveKey(secret, 'audit')))
  }

  mac (previous: string, fields: AuditFields): string {
    return macWith(this.#keys[0]!, previous, fields)
  }

  holds (previous: string, fields: AuditFields): boolean {
    const given = Buffer.from(fields['mac'] ?? '')
    return this.#keys.some((key) => {
      const expected = Buffer.from(macWith(key, previous, fields))
      return given.length === expected.length && timingSafeEqual(given, expected)
    })
  }
}

function macWith (key: KeyObject, previous: string, fields: AuditFields): string {
  const sorted = sortedNames(fields).map((name) => [name, fields[name]])
  return createHmac('sha256', key).update(JSON.stringify([previous, sorted])).digest('base64url')
}

/** Events have but a few sets of fields. */
const sortedBefore = new LRUCache<string, string[]>({ max: 100 })

/** Names of an event's fields, without `mac`. */
function sortedNames (fields: AuditFields): string[] {
  const names = Object.keys(fields)
  const known = names.join()
  let sorted = sortedBefore.get(known)
  if (sorted === undefined) sortedBefore.set(known, sorted = names.filter((name) => name !== 'mac').sort())
  return sorted
}
