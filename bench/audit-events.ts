import { randomBytes, randomInt } from 'node:crypto'
import { Chain, CHAIN_START } from '../plugin/audit/chain.js'
import { toFields, type AuditEvent, type AuditFields } from '../plugin/audit/event.js'
import { emailOf } from './asks.js'

export const INSTANCE = 'portal-6f9d7c5b8-x2v4q-17-9f3a61c2'
const USER_AGENT = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36'
const HOUR_MS = 3_600_000

export const CODE = 'TOOLJET_EMBED_ACCESS_DENIED'
const REFUSED_PERCENT = 2
const MINTED_PERCENT = 5

/** What a portal with so many users and apps leaves in its audit log, as long as it is in use. */
export class AuditEvents {
  readonly #chain = new Chain([Buffer.from('a key of the benchmark')])
  readonly #users: number
  readonly #apps: number
  #mac = CHAIN_START
  #seq = 0

  constructor ({ users, apps }: { users: number, apps: number }) {
    this.#users = users
    this.#apps = apps
  }

  next (count: number): AuditFields[] {
    return Array.from({ length: count }, () => this.#event())
  }

  anEmail (): string {
    return emailOf(randomInt(this.#users))
  }

  anApp (): string {
    return `app-${randomInt(this.#apps)}`
  }

  #event (): AuditFields {
    const chance = randomInt(100)
    const refused = chance < REFUSED_PERCENT
    const now = Date.now()
    const event: AuditEvent = {
      event: refused ? 'url.denied' : chance < REFUSED_PERCENT + MINTED_PERCENT ? 'url.minted' : 'url.reused',
      email: this.anEmail(),
      app: this.anApp(),
      requestId: `req-${(this.#seq + 1).toString(36)}`,
      ip: `10.${randomInt(256)}.${randomInt(256)}.${randomInt(256)}`,
      userAgent: USER_AGENT,
      durationMs: randomInt(1, 5),
      ...(refused ? { code: CODE } : { urlId: randomBytes(12).toString('base64url'), expiresAt: now + randomInt(HOUR_MS) }),
    }
    const fields = toFields(event, { time: now, instance: INSTANCE, seq: ++this.#seq })
    this.#mac = fields['mac'] = this.#chain.mac(this.#mac, fields)
    return fields
  }
}
