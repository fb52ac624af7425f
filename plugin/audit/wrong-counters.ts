import type { AuditProblem } from './report.js'

export const REMEDY = 'run tooljet-embed-audit reindex'
/** Of what is wrong with counters: a report has a thousand, the last of which tells how many there are. */
export const TOLD = 999

/** What is wrong with counters: the first ones, and how many others are wrong. */
export class WrongCounters {
  readonly #details: string[] = []
  count = 0

  constructor (readonly key: string) {}

  add (detail: string): void {
    this.count++
    if (this.#details.length < TOLD) this.#details.push(`${detail}: ${REMEDY}`)
  }

  get problems (): AuditProblem[] {
    const more = this.count - this.#details.length
    return [...this.#details, ...more > 0 ? [`${more} more fields of ${this.key} are wrong: ${REMEDY}`] : []].map((detail) => ({ kind: 'counts', detail }))
  }
}
