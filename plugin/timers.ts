import { setTimeout as sleep } from 'node:timers/promises'

/** This process's clocks and timers, in one place: the simulation brings its own. */
export interface Timers {
  /** Milliseconds on a clock that only ever goes forward, at the pace of real time. */
  now (): number
  /** Milliseconds since 1970 by the machine's date, which may be wrong. */
  date (): number
  /** Resolves after that many milliseconds. */
  sleep (ms: number): Promise<void>
  /** Calls once after that many milliseconds, and keeps no process alive for it. @returns cancels it */
  after (ms: number, run: () => void): () => void
  /** The same, but the process lives until then, or until it is cancelled: for the bound of what has to be waited for. */
  afterAlive (ms: number, run: () => void): () => void
  /** Calls when this turn of the event loop ends. */
  endOfTurn (run: () => void): void
  /** From 0 to 1: for pauses that differ. */
  random (): number
}

// taken when the module loads: a host's tests may hold time still later
const { setTimeout, clearTimeout, setImmediate } = globalThis

export const systemTimers: Timers = {
  now: () => performance.now(),
  date: () => Date.now(),
  sleep: (ms) => sleep(ms),
  after (ms, run) {
    const timer = setTimeout(run, ms).unref()
    return () => clearTimeout(timer)
  },
  afterAlive (ms, run) {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  },
  endOfTurn: (run) => { setImmediate(run) },
  random: Math.random,
}
