import type { Timers } from '../timers.js'
import type { AuditEvent } from './event.js'

/** Users whose refusals are summed up at the same time; of one more, the oldest sum is written at once. */
const MAX_USERS = 10_000

interface Sum {
  /** When it is written, on the monotonic clock. */
  endsAt: number
  count: number
  /** The last one as JSON, which keeps nothing else of its request in memory, and when it was. */
  last: string
  time: number
}

/**
 * Refusals by the rate limit, of which one user can cause any number: the first is recorded at once, and those that come
 * within the window after it together as one event with their number.
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
    this.#writeOver()
    const sum = this.#sums.get(user)
    if (sum === undefined) {
      this.#record(event, time)
      if (this.#sums.size >= MAX_USERS) this.#write(this.#sums.keys().next().value!)
      this.#sums.set(user, { endsAt: this.#timers.now() + this.#windowMs, count: 0, last: '', time })
      this.#wakeUp()
      return
    }
    sum.count++
    sum.last = JSON.stringify(event)
    sum.time = time
  }

  /** Writes what there is. */
  close (): void {
    this.#cancelTimer?.()
    for (const user of [...this.#sums.keys()]) this.#write(user)
  }

  #wakeUp (): void {
    const [first] = this.#sums.values()
    if (first === undefined || this.#cancelTimer !== undefined) return
    this.#cancelTimer = this.#timers.after(Math.max(1, first.endsAt - this.#timers.now()), () => {
      this.#cancelTimer = undefined
      this.#writeOver()
      this.#wakeUp()
    })
  }

  #writeOver (): void {
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
