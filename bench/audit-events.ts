import { randomBytes, randomInt } from 'node:crypto'
import { toQueued, type QueuedEvent } from '../plugin/audit/append.js'
import type { AuditKeys } from '../plugin/audit/audit-keys.js'
import { toFields, type AuditEvent, type AuditFields } from '../plugin/audit/event.js'
import { EventSigner, fieldsOfSigned } from '../plugin/audit/signer.js'
import { emailOf } from './requests.js'

export const INSTANCE = 'portal-6f9d7c5b8-x2v4q-17-9f3a61c2'
const USER_AGENT = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36'
const HOUR_MS = 3_600_000
/** Over which the events are spread, the last one now. */
const DAYS = 90

export const CODE = 'TOOLJET_EMBED_ACCESS_DENIED'
const REFUSED_PERCENT = 2
const MINTED_PERCENT = 5

export interface BenchEvent {
  fields: AuditFields
  queued: QueuedEvent
}

/** What a portal with so many users and apps leaves in its audit log, as long as it is in use. */
export class AuditEvents {
  readonly #keys: AuditKeys
  readonly #signer: EventSigner
  readonly #settings: { users: number, apps: number, events: number }
  readonly #begin = Date.now() - DAYS * 24 * HOUR_MS
  #mac = ''
  #seq = 0

  /** @param settings.events how many there will be; all users have the same number of them */
  constructor (keys: AuditKeys, settings: { users: number, apps: number, events: number }) {
    this.#keys = keys
    this.#signer = new EventSigner([Buffer.from('a key of the benchmark')], keys.stream)
    this.#settings = settings
  }

  next (count: number): BenchEvent[] {
    return Array.from({ length: count }, () => this.#event())
  }

  anEmail (): string {
    return emailOf(randomInt(this.#settings.users))
  }

  anApp (): string {
    return `app-${randomInt(this.#settings.apps)}`
  }

  #event (): BenchEvent {
    const chance = randomInt(100)
    const refused = chance < REFUSED_PERCENT
    const seq = ++this.#seq
    const { users, events } = this.#settings
    const time = this.#begin + Math.floor(seq / events * DAYS * 24 * HOUR_MS)
    const event: AuditEvent = {
      event: refused ? 'url.denied' : chance < REFUSED_PERCENT + MINTED_PERCENT ? 'url.minted' : 'url.reused',
      email: emailOf(seq * 7919 % users),
      app: this.anApp(),
      requestId: `req-${seq.toString(36)}`,
      ip: `10.${randomInt(256)}.${randomInt(256)}.${randomInt(256)}`,
      userAgent: USER_AGENT,
      durationMs: randomInt(1, 5),
      ...(refused ? { code: CODE } : { urlId: randomBytes(12).toString('base64url'), expiresAt: new Date(time + randomInt(HOUR_MS)).toISOString() }),
    }
    const fields = toFields(event, time, { instance: INSTANCE, seq, prev: this.#mac })
    const signed = this.#signer.sign(fields, time)
    this.#mac = signed.mac
    return { fields: fieldsOfSigned(signed), queued: toQueued(signed, fields, this.#keys) }
  }
}
