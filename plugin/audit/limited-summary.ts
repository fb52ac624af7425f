import type { Timers } from '../timers.js'
import type { AuditEvent } from './event.js'

/** Users whose refusals are counted at the same time; for one more, the oldest sum is written at once. */
const MAX_USERS = 10_000

interface Sum {
  /** When it is written, on the monotonic clock. */
  endsAt: number
  count: number
  /** The last event as JSON, which keeps nothing else of its request in memory, and its time. */
  last: string
  time: number
}

/**
 * Sums up refusals by the rate limit, of which one user can cause any number: the first is recorded at once, and those in the
 * window after it as one event with their number.
 */
export class LimitedSummary {
  readonly #timers: Timers
  readonly #windowMs: number
  readonly #record: (event: AuditEvent, time: number) => void
  /** In the order of their ends. */
  readonly #sums = new Map<string, Sum>()
  #cancelTimer: (() => void) | undefined

  /** @param record writes an event of that time, milliseconds since 1970 */
  constructor (timers: Timers, windowMs: number, record: (event: AuditEvent, time: number) => void) {
    this.#timers = timers
    this.#windowMs = windowMs
    this.#record = record
  }

  /** @param event with texts of bounded length */
  add (event: AuditEvent, time: number): void {
    const user = `${event.tooljet ?? ''} ${event.email ?? ''}`
    this.#writeEnded()
    const sum = this.#sums.get(user)
    if (sum === undefined) {
      this.#record(event, time)
      if (this.#sums.size >= MAX_USERS) this.#write(this.#sums.keys().next().value!)
      this.#sums.set(user, { endsAt: this.#timers.now() + this.#windowMs, count: 0, last: '', time })
      this.#startTimer()
      return
    }
    sum.count++
    sum.last = JSON.stringify(event)
    sum.time = time
  }

  /** Writes all sums. */
  close (): void {
    this.#cancelTimer?.()
    for (const user of [...this.#sums.keys()]) this.#write(user)
  }

  #startTimer (): void {
    const [first] = this.#sums.values()
    if (first === undefined || this.#cancelTimer !== undefined) return
    this.#cancelTimer = this.#timers.after(Math.max(1, first.endsAt - this.#timers.now()), () => {
      this.#cancelTimer = undefined
      this.#writeEnded()
      this.#startTimer()
    })
  }

  #writeEnded (): void {
    const now = this.#timers.now()
    for (const [user, { endsAt }] of this.#sums) {
      if (endsAt > now) return
      this.#write(user)
    }
  }

  #write (user: string): void {
    const { count, last, time } = this.#sums.get(user)!
    this.#sums.delete(user)
    if (count > 0) this.#record({ ...JSON.parse(last) as AuditEvent, count }, time)
  }
}
