/** How one promise fared. */
export interface Judged {
  promise: string
  count: number
  violations: number
  /** The first few. */
  examples: string[]
}

const MAX_EXAMPLES = 5

/** Judges one promise, many times. */
export class Row {
  count = 0
  #violations = 0
  readonly #examples: string[] = []

  constructor (readonly promise: string) {}

  judge (holds: boolean, example: () => string): void {
    this.count++
    if (!holds) this.fail(example())
  }

  /** A violation of something that is counted already. */
  fail (example: string): void {
    this.#violations++
    if (this.#examples.length < MAX_EXAMPLES) this.#examples.push(example)
  }

  get judged (): Judged {
    return { promise: this.promise, count: this.count, violations: this.#violations, examples: this.#examples }
  }
}
