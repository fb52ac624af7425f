import type { AuditProblem } from './report.js'

export const REMEDY = 'run tooljet-embed-audit reindex'
/** Problems of counters that are listed one by one: a report has 1,000, and the last one is the number of the others. */
export const MAX_LISTED = 999

/** Problems of counters: the first ones, and the number of the others. */
export class WrongCounters {
  readonly #details: string[] = []
  count = 0

  constructor (readonly key: string) {}

  add (detail: string): void {
    this.count++
    if (this.#details.length < MAX_LISTED) this.#details.push(`${detail}: ${REMEDY}`)
  }

  get problems (): AuditProblem[] {
    const more = this.count - this.#details.length
    return [...this.#details, ...more > 0 ? [`${more} more fields of ${this.key} are wrong: ${REMEDY}`] : []].map((detail) => ({ kind: 'counts', detail }))
  }
}
