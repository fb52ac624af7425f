import type { WrittenEntry } from './append.js'
import type { AuditFields } from './event.js'
import { timeOfMac } from './signer.js'
import type { AuditProblem } from './report.js'
import type { Judge, Witness } from './verify.js'

/** A running instance knows which event it has written last. */
export class OwnWitness implements Witness {
  readonly #instance: string
  readonly #last: WrittenEntry | undefined
  #isThere = false

  constructor (instance: string, last: WrittenEntry | undefined) {
    this.#instance = instance
    this.#last = last
  }

  add (_id: string, { mac }: AuditFields): void {
    if (mac === this.#last?.mac) this.#isThere = true
  }

  problems ({ isTrimmed }: Judge): AuditProblem[] {
    if (this.#last === undefined || this.#isThere || isTrimmed(timeOfMac(this.#last.mac))) return []
    return [{ kind: 'erased', instance: this.#instance, detail: `the last event that this instance has written, entry ${this.#last.id}, is gone` }]
  }
}
