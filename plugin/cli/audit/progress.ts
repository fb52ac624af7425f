import type { Output } from '../output.js'
import { grouped } from '../text.js'

const EVERY_MS = 100

/** A progress line for reading through the log. */
export class Progress {
  readonly #out: Output
  readonly #doing: string
  readonly #total: number | undefined
  readonly #began = performance.now()
  #count = 0
  #shownAt = 0

  /** @param total how many events there are, as far as that is known */
  constructor (out: Output, doing: string, total?: number) {
    this.#out = out
    this.#doing = doing
    this.#total = total
  }

  /** Yields the same events, and counts them. */
  async * over<T> (entries: AsyncIterable<T>): AsyncGenerator<T> {
    if (!this.#out.showsProgress) {
      yield * entries
      return
    }
    try {
      for await (const entry of entries) {
        this.add(1)
        yield entry
      }
    } finally {
      this.end()
    }
  }

  add (count: number): void {
    this.#count += count
    const now = performance.now()
    if (now - this.#shownAt < EVERY_MS) return
    this.#shownAt = now
    const ofTotal = this.#total === undefined ? '' : ` of ${grouped(this.#total)}`
    const share = this.#total === undefined ? '' : ` (${Math.min(100, Math.floor(this.#count * 100 / this.#total))} %)`
    const rate = Math.round(this.#count / (now - this.#began) * 1000)
    this.#out.progress(`${this.#doing} ${grouped(this.#count)}${ofTotal} ${(this.#total ?? this.#count) === 1 ? 'event' : 'events'}${share}, ${grouped(rate)}/s`)
  }

  end (): void {
    this.#out.progress()
  }
}
