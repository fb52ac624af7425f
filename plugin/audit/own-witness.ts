import type { WrittenEntry } from './append.js'
import type { AuditFields } from './event.js'
import { timeOfMac } from './signer.js'
import type { AuditProblem } from './report.js'
import type { Judge, Witness } from './verify.js'

/** Checks the stream by what a running instance knows: its last event, and whether newer ones could not be written. */
export class OwnWitness implements Witness {
  readonly #instance: string
  readonly #last: WrittenEntry | undefined
  readonly #hasLost: boolean
  #isFound = false

  /** @param hasLost whether its newest events could not be written */
  constructor (instance: string, last: WrittenEntry | undefined, hasLost: boolean) {
    this.#instance = instance
    this.#last = last
    this.#hasLost = hasLost
  }

  add (_id: string, { mac }: AuditFields): void {
    if (mac === this.#last?.mac) this.#isFound = true
  }

  problems (judge: Judge): AuditProblem[] {
    return [...this.#erased(judge), ...this.#lost()]
  }

  #erased ({ isTrimmed }: Judge): AuditProblem[] {
    if (this.#last === undefined || this.#isFound || isTrimmed(timeOfMac(this.#last.mac))) return []
    return [{ kind: 'erased', instance: this.#instance, detail: `the last event that this instance has written, entry ${this.#last.id}, is gone` }]
  }

  /** The newest events, whose gap no later event shows. */
  #lost (): AuditProblem[] {
    if (!this.#hasLost) return []
    return [{ kind: 'missing', instance: this.#instance, detail: 'the newest events of this instance could not be written, and are in the app\'s log only' }]
  }
}
