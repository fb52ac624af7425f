import { createHmac } from 'node:crypto'
import { deriveKey } from '../cache/keys.js'
import type { AuditEvent } from './event.js'

/** What stands in the audit log for people when it may not name them: stable, and of no use without the key. */
export class Pseudonyms {
  readonly #keys: readonly Buffer[]

  /** @param secrets the first makes new pseudonyms, older events may have those of the others */
  constructor (secrets: readonly string[]) {
    this.#keys = secrets.map((secret) => deriveKey(secret, 'audit identity'))
  }

  /** @returns `hmac:` and 32 hexadecimal digits */
  of (email: string): string {
    return pseudonym(this.#keys[0]!, email)
  }

  /** Under every key, the current one first. */
  allOf (email: string): string[] {
    return this.#keys.map((key) => pseudonym(key, email))
  }

  /** Takes out of an event what tells who it was. */
  disguise (event: AuditEvent): AuditEvent {
    const { email, ip: _, userAgent: __, ...rest } = event
    return { ...rest, email: email === undefined ? undefined : this.of(email) }
  }
}

function pseudonym (key: Buffer, email: string): string {
  return `hmac:${createHmac('sha256', key).update(email).digest('hex').slice(0, 32)}`
}
