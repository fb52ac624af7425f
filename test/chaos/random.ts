/** Numbers that look random and follow from a seed alone (mulberry32). */
export class Random {
  #state: number

  constructor (seed: number) {
    this.#state = seed >>> 0
  }

  /** 0 <= x < 1 */
  next (): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  /** A whole number, both ends included. */
  between (least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1))
  }

  pick<T> (from: readonly T[]): T {
    return from[this.between(0, from.length - 1)]!
  }

  chance (share: number): boolean {
    return this.next() < share
  }

  /** The same things in another order. */
  shuffled<T> (things: readonly T[]): T[] {
    const left = [...things]
    const order: T[] = []
    while (left.length > 0) order.push(...left.splice(this.between(0, left.length - 1), 1))
    return order
  }
}
