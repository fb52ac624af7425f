import type { History, MintRecord, ProcessRecord, RequestRecord } from './history.js'
import { tokenIn } from './tooljet.js'

/** A promise that was broken. */
export interface Violation {
  /** Of CONTRACT: its number, and which part of it. */
  promise: string
  what: string
}

/** What the checks have in common: who asked for what, and what excuses whom. */
export class Facts {
  readonly history: History
  readonly #processes: Map<string, ProcessRecord>
  readonly #mints: Map<string, MintRecord>
  readonly #troubles = new Map<string, { from: number, to: number }[]>()

  constructor (history: History) {
    this.history = history
    this.#processes = new Map(history.processes.map((process) => [process.name, process]))
    this.#mints = new Map(history.mints.filter(({ token }) => token !== undefined).map((mint) => [mint.token!, mint]))
  }

  get processes (): ProcessRecord[] {
    return this.history.processes
  }

  process (name: string): ProcessRecord {
    return this.#processes.get(name)!
  }

  /** Whose URL the answer is. */
  mintOf ({ answer }: RequestRecord): MintRecord | undefined {
    return answer && this.#mints.get(tokenIn(answer.redirectUrl))
  }

  /**
   * Redis was out of reach for this process at some time of these: a command took longer than its deadline, or failed
   * for want of a connection. It may go on without Redis until it has seen that Redis is back: a breaker asks once a
   * second, and waits for the answer.
   */
  hadTrouble (process: string, from: number, to: number): boolean {
    let troubles = this.#troubles.get(process)
    if (troubles === undefined) {
      troubles = this.process(process).traffic.delays.map(({ from, to }) => ({ from, to: to + 2500 }))
      this.#troubles.set(process, troubles)
    }
    return overlaps(troubles, from, to)
  }

  /** The process stood still at some time of these. */
  stoodStill (process: string, from: number, to: number): boolean {
    return overlaps(this.process(process).stalls, from, to)
  }

  /** It had no Redis, or stood still: then waits for Redis were over before their answers could be seen, as in an outage. */
  wasBlind (process: string, from: number, to: number): boolean {
    return this.hadTrouble(process, from, to) || overlaps(this.process(process).stalls.map(({ from, to }) => ({ from, to: to + 2500 })), from, to)
  }

  /** Redis lost what it had at some time of these, or was put back to before `from`. */
  lost (from: number, to: number): boolean {
    return this.history.losses.some((loss) => loss.at >= from && loss.at <= to)
  }
}

export function overlaps (spans: { from: number, to: number }[], from: number, to: number): boolean {
  return spans.some((span) => span.from <= to && span.to >= from)
}

/** Virtual ms, to read. */
export function at (ms: number): string {
  return `${(ms / 1000).toFixed(3)} s`
}
