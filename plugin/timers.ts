import { setTimeout as sleep } from 'node:timers/promises'

/** This process's clocks and timers, in one place: the simulation brings its own. */
export interface Timers {
  /** Milliseconds of the monotonic clock. */
  now (): number
  /** Milliseconds since 1970 by the machine's date, which may be wrong. */
  date (): number
  /** Resolves after that many milliseconds. */
  sleep (ms: number): Promise<void>
  /** Calls `run` once after that many milliseconds; does not keep the process alive. @returns a function that cancels it */
  after (ms: number, run: () => void): () => void
  /** The same, but keeps the process alive until then: for the bound of what has to be waited for. */
  afterAlive (ms: number, run: () => void): () => void
  /** Calls `run` when this turn of the event loop ends. */
  endOfTurn (run: () => void): void
  /** A number from 0 to 1, for jitter. */
  random (): number
}

// kept when the module loads, because a host's tests may replace timers later
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
