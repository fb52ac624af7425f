import { APPS, inCapitals, SLUGS, type AppNaming, type MintRecord } from './history.js'
import type { Decisions } from './decisions.js'
import { ARRIVALS, type Process, type Scheduler } from './scheduler.js'

export const TOOLJET_URL = 'https://tooljet.test'

/** How likely each fault of ToolJet is. */
export interface TooljetFaults {
  slow: number
  /** Longer than its callers wait. */
  tooSlow: number
  denies: number
  pauses: number
  fails: number
}

/** The body of a call as the client sends it. */
interface MintBody {
  email: string
  appId?: string
  appSlug?: string
}

export interface HttpReply {
  statusCode: number
  headers: Record<string, string>
  text: string
}

/** ToolJet, as far as minting goes: one for all instances. */
export class SimulatedTooljet {
  readonly mints: MintRecord[] = []
  /** `user app` that it denies. */
  readonly revoked = new Set<string>()
  #pausedUntil = 0
  readonly #scheduler: Scheduler
  readonly #decisions: Decisions
  readonly #faults: TooljetFaults
  readonly #hasCapitals: boolean
  readonly #note: (process: string, what: string) => void

  constructor (scheduler: Scheduler, decisions: Decisions, { faults, hasCapitals }: { faults: TooljetFaults, hasCapitals: boolean }, note: (process: string, what: string) => void) {
    this.#scheduler = scheduler
    this.#decisions = decisions
    this.#faults = faults
    this.#hasCapitals = hasCapitals
    this.#note = note
  }

  /** @param openSince when the oldest request of this process began that may have caused the call */
  call (process: Process, body: MintBody, signal: AbortSignal | undefined, openSince: (user: string, name: string) => number): Promise<HttpReply> {
    const naming = namingOf(body)
    const { now } = this.#scheduler
    const user = body.email.toLowerCase()
    const record: MintRecord = { id: this.mints.length + 1, process: process.name, user, ...naming, begin: now, openSince: openSince(user, naming.name) }
    if (this.#hasCapitals && body.email !== inCapitals(user)) record.isMisspelled = true
    this.mints.push(record)
    const name = `mint ${record.id}`
    this.#note(process.name, `${name} of ${body.email} ${naming.name} begins`)
    const { slow, tooSlow, denies, pauses, fails } = this.#faults
    const fate = this.#decisions.decide(`${name} fate`, 'mints', (random) => {
      let share = random.next()
      for (const [fate, likely] of [['user unknown', denies / 2], ['no access', denies / 2], ['429', pauses * 0.7], ['503', pauses * 0.3], ['500', fails]] as const) {
        if (share < likely) return fate
        share -= likely
      }
      return 'mints'
    })
    const took = this.#decisions.decide(`${name} takes`, 20, (random) => {
      if (random.chance(tooSlow)) return random.pick([9_990, 10_050, 13_000, 30_000])
      if (random.chance(slow)) return random.between(300, 9000)
      return random.between(3, 60)
    })
    const back = this.#decisions.decide(`${name} back`, 1, (random) => (random.chance(0.1) ? random.pick([300, 3000, 12_000]) : 1))
    const pauseSeconds = this.#decisions.decide(`${name} pause`, 10, (random) => random.pick([2, 10, 60]))
    return new Promise((resolve, reject) => {
      signal?.addEventListener('abort', () => {
        if (record.end !== undefined) return
        record.end = this.#scheduler.now
        record.outcome = 'given up'
        this.#note(process.name, `${name} is given up`)
        reject(Object.assign(new Error('This operation was aborted'), { name: 'AbortError' }))
      })
      this.#scheduler.add(now + took, ARRIVALS, undefined, () => {
        const reply = this.#answer(record, fate, pauseSeconds)
        this.#note('ToolJet', `${name}: ${reply.statusCode}`)
        this.#scheduler.add(this.#scheduler.now + back, ARRIVALS, process, () => {
          if (record.end !== undefined) return
          record.end = this.#scheduler.now
          record.outcome = record.isMisspelled && reply.statusCode === 404 ? 'misspelled' : outcomeOf(reply)
          if (record.outcome === 'paused') record.pauseMs = Number(reply.headers['retry-after']) * 1000
          this.#note(process.name, `${name}: ${record.outcome}`)
          resolve(reply)
        })
      })
    })
  }

  #answer (record: MintRecord, fate: string, pauseSeconds: number): HttpReply {
    const { now } = this.#scheduler
    if (this.#pausedUntil > now) return refuse(429, 'ThrottlerException: Too Many Requests', { 'retry-after': String(Math.ceil((this.#pausedUntil - now) / 1000)) })
    if (fate === '429' || fate === '503') {
      this.#pausedUntil = now + pauseSeconds * 1000
      return refuse(Number(fate), fate === '429' ? 'ThrottlerException: Too Many Requests' : 'Service Unavailable', { 'retry-after': String(pauseSeconds) })
    }
    if (fate === '500') return refuse(500, 'Internal server error')
    // one who is known by the other spelling is not unknown by chance, too
    if (record.isMisspelled || (fate === 'user unknown' && !this.#hasCapitals)) return refuse(404, 'User not found')
    if (fate === 'user unknown' || fate === 'no access' || this.revoked.has(`${record.user} ${record.app}`)) return refuse(403, 'User does not have access to this app')
    record.mintedAt = now
    record.token = `pat_${record.id}`
    const redirectUrl = `${TOOLJET_URL}/embed-apps/${record.app}?personal-access-token=${record.token}&appSlug=${SLUGS[record.app]}`
    return { statusCode: 201, headers: { 'content-type': 'application/json' }, text: JSON.stringify({ personalAccessToken: record.token, redirectUrl }) }
  }
}

/** The token in a URL that ToolJet gave. */
export function tokenIn (redirectUrl: string): string {
  return new URL(redirectUrl).searchParams.get('personal-access-token') ?? ''
}

function namingOf ({ appId, appSlug }: MintBody): AppNaming {
  const name = appId !== undefined ? `id:${appId}` : `slug:${appSlug}`
  return APPS.find((app) => app.name === name)!
}

function outcomeOf ({ statusCode, headers }: HttpReply): NonNullable<MintRecord['outcome']> {
  if (statusCode === 201) return 'minted'
  if (statusCode === 403 || statusCode === 404) return 'denied'
  return headers['retry-after'] === undefined ? 'failed' : 'paused'
}

function refuse (statusCode: number, message: string, headers: Record<string, string> = {}): HttpReply {
  return { statusCode, headers: { 'content-type': 'application/json', ...headers }, text: JSON.stringify({ statusCode, timestamp: '2027-01-15T08:00:00.000Z', path: '/api/ext/users/personal-access-token', message }) }
}
