import type { Timers } from '../../plugin/timers.js'
import type { Random } from '../chaos/random.js'

/** As an event loop goes: timers that are due, then what has arrived, then what waits for the turn's end. */
export const TIMERS = 0
export const ARRIVALS = 1
const TURNS_END = 2

/** A process: what it waits for does not happen while it stands still, and never after it has crashed. */
export class Process {
  readonly name: string
  alive = true
  stalledUntil = 0
  /** How wrong its date is, ms. */
  clockOffset = 0

  constructor (name: string) {
    this.name = name
  }
}

interface Event {
  at: number
  phase: number
  /** Of two at the same time and in the same phase, the one that was added first happens first. */
  order: number
  owner: Process | undefined
  run: () => void | Promise<void>
  cancelled?: boolean
}

/**
 * Virtual time, ms. One event happens at a time, and the next one when everything that follows from it at once has
 * happened: code under test waits for nothing else than its `Timers`, Redis and ToolJet, which are all events.
 */
export class Scheduler {
  now = 0
  #order = 0
  readonly #heap: Event[] = []

  /** @returns cancels it */
  add (at: number, phase: number, owner: Process | undefined, run: Event['run']): () => void {
    const event: Event = { at: Math.max(at, this.now), phase, order: this.#order++, owner, run }
    this.#push(event)
    return () => { event.cancelled = true }
  }

  /** Until nothing is left to happen, `isOver`, or a bound of virtual time. */
  async run (isOver: () => boolean, until: number): Promise<void> {
    while (!isOver()) {
      const event = this.#pop()
      if (event === undefined || event.at > until) return
      this.now = event.at
      const { owner } = event
      if (event.cancelled || owner?.alive === false) continue
      if (owner !== undefined && owner.stalledUntil > this.now) {
        event.at = owner.stalledUntil
        this.#push(event)
        continue
      }
      const done = event.run()
      if (done !== undefined) await done
      // all microtasks run before it, also those that microtasks add
      if (owner !== undefined) await new Promise<void>((resolve) => { setImmediate(resolve) })
    }
  }

  timersOf (owner: Process, random: Random): Timers {
    const startedAt = this.now
    const after = (ms: number, run: () => void): (() => void) => this.add(this.now + Math.max(1, Math.ceil(ms)), TIMERS, owner, run)
    return {
      now: () => this.now - startedAt + 1000,
      date: () => dateOf(this.now) + owner.clockOffset,
      sleep: (ms) => new Promise((resolve) => { after(ms, resolve) }),
      after,
      afterAlive: after,
      endOfTurn: (run) => { this.add(this.now, TURNS_END, owner, run) },
      random: () => random.next(),
    }
  }

  #push (event: Event): void {
    const heap = this.#heap
    let i = heap.push(event) - 1
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (isBefore(heap[parent]!, event)) break
      heap[i] = heap[parent]!
      i = parent
    }
    heap[i] = event
  }

  #pop (): Event | undefined {
    const heap = this.#heap
    const [first] = heap
    const last = heap.pop()
    if (first === undefined || last === first) return first
    let i = 0
    for (;;) {
      let child = 2 * i + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (isBefore(last!, heap[child]!)) break
      heap[i] = heap[child]!
      i = child
    }
    heap[i] = last!
    return first
  }
}

function isBefore (one: Event, other: Event): boolean {
  return one.at !== other.at ? one.at < other.at : one.phase !== other.phase ? one.phase < other.phase : one.order < other.order
}

/** Virtual time as a true date, ms since 1970. */
export function dateOf (now: number): number {
  return 1_800_000_000_000 + now
}
