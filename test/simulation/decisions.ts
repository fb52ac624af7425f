import { Random } from '../chaos/random.js'

/** What a schedule may choose: how long a message takes, whether a reply is lost. */
type Choice = number | string

/** A `Random` for one purpose of one seed, whatever else is drawn. */
export function randomFor (seed: number, purpose: string): Random {
  let hash = 0x811c9dc5 ^ seed
  for (let i = 0; i < purpose.length; i++) hash = Math.imul(hash ^ purpose.charCodeAt(i), 0x01000193)
  return new Random(hash)
}

/**
 * Every choice of a schedule has a name that says what it is about, and a usual value. Only the others are kept: so a
 * schedule can be replayed, and made shorter by leaving out choices.
 */
export class Decisions {
  /** What was chosen, other than as usual. */
  readonly taken: Record<string, Choice> = {}
  readonly #seed: number
  readonly #replayed: Record<string, Choice> | undefined

  /** @param replayed choices of an earlier run: all others are as usual */
  constructor (seed: number, replayed?: Record<string, Choice>) {
    this.#seed = seed
    this.#replayed = replayed
  }

  decide<T extends Choice> (name: string, usual: T, choose: (random: Random) => T): T {
    const choice = this.#replayed === undefined
      ? choose(randomFor(this.#seed, name))
      : (this.#replayed[name] ?? usual) as T
    if (choice !== usual) this.taken[name] = choice
    return choice
  }
}
