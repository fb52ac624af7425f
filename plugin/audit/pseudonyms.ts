import { createHmac } from 'node:crypto'
import { parseEmail } from '../access/identity.js'
import type { AuditEvent } from './event.js'

/** Pseudonyms of people for an audit log with `identity: 'hmac'`: stable, and of no use without the key. */
export class Pseudonyms {
  readonly #keys: readonly Buffer[]

  /** @param keys of purpose `audit identity`; the first makes new pseudonyms, older events may have those of the others */
  constructor (keys: readonly Buffer[]) {
    this.#keys = keys
  }

  /** @returns `hmac:` and 32 hexadecimal digits */
  of (email: string): string {
    return pseudonym(this.#keys[0]!, email)
  }

  /** Pseudonyms by every key, the current one first, each once. */
  allOf (email: string): string[] {
    return [...new Set(this.#keys.map((key) => pseudonym(key, email)))]
  }

  /** Replaces or removes what identifies a person in an event. */
  pseudonymize (event: AuditEvent): AuditEvent {
    const { email, target, by, ip: _, userAgent: __, ...rest } = event
    return {
      ...rest,
      email: email === undefined ? undefined : this.of(email),
      target: target === undefined ? undefined : this.of(target),
      by: parseEmail(by) === undefined ? by : this.of(parseEmail(by)!),
    }
  }
}

function pseudonym (key: Buffer, email: string): string {
  return `hmac:${createHmac('sha256', key).update(email).digest('hex').slice(0, 32)}`
}
