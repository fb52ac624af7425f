import { createHmac, timingSafeEqual } from 'node:crypto'
import { deriveKey } from '../urls/keys.js'
import type { AuditFields } from './event.js'

/** The mac before an instance's first event. */
export const CHAIN_START = ''

/**
 * Authenticates events: each mac covers the mac before it and all fields of its own event, so that a changed,
 * missing, reordered or forged event shows.
 */
export class Chain {
  readonly #keys: readonly Buffer[]

  /** @param secrets the first makes macs, all check them */
  constructor (secrets: readonly string[]) {
    this.#keys = secrets.map((secret) => deriveKey(secret, 'audit'))
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

function macWith (key: Buffer, previous: string, { mac: _, ...fields }: AuditFields): string {
  const sorted = Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1))
  return createHmac('sha256', key).update(JSON.stringify([previous, sorted])).digest('base64url')
}
