import { Random } from './random.js'

/** Something that goes wrong at a given time; `forMs` 0: in a moment. */
export interface PlannedFault {
  /** Milliseconds from the load's begin. */
  at: number
  kind: FaultKind
  forMs: number
  /** Which instance, where it hits one. */
  slot?: number
  /** Share of ToolJet's calls, or of the scripts' replies, that it hits. */
  share?: number
  /** One number more, where the kind has one: delay, bytes per second, Retry-After, how many. */
  amount?: number
}

export type FaultKind =
  | 'instance-kill' | 'instance-stop' | 'instance-stall'
  | 'redis-stall' | 'redis-restart-empty' | 'redis-restart-kept' | 'redis-cut' | 'redis-black-hole' | 'redis-refuse' | 'redis-slow' | 'redis-narrow'
  | 'redis-lose-replies' | 'redis-kill-clients'
  | 'tooljet-500' | 'tooljet-502' | 'tooljet-503' | 'tooljet-429' | 'tooljet-hang' | 'tooljet-cut' | 'tooljet-slow' | 'tooljet-garbage' | 'tooljet-link-cut' | 'tooljet-revoke'

type Shape = Omit<PlannedFault, 'at' | 'kind'>

const FIRST_AFTER_MS = 2500
/** The end belongs to recovery: everything is to be written and whole by then. */
const LAST_CALM_MS = 6000

/**
 * Which faults a run has, and when: volleys of two or three, with a calm after each, so that recovery is judged, too. Every kind comes
 * once before any comes twice; `kinds` leaves out the others. Slot 0 is never ended, so that one instance is as old as the run.
 */
export function planFaults (seed: number, ms: number, slots: number, kinds: readonly FaultKind[] = FAULT_KINDS): PlannedFault[] {
  const random = new Random(seed)
  const plan: PlannedFault[] = []
  let deck: FaultKind[] = []
  for (let at = FIRST_AFTER_MS; ;) {
    let end = at
    const volley: PlannedFault[] = []
    for (let left = random.pick([2, 2, 3, 3]); left > 0; left--) {
      if (deck.length === 0) deck = random.shuffled(kinds)
      const kind = deck.pop()!
      const fault = { at: at + random.between(0, 1500), kind, ...SHAPES[kind](random, slots) }
      volley.push(fault)
      end = Math.max(end, fault.at + fault.forMs)
    }
    if (end > ms - LAST_CALM_MS) return plan
    plan.push(...volley.sort((a, b) => a.at - b.at))
    // most calms are longer than the time for which a disturbance excuses anything
    at = end + random.pick([500, 500, 7000, 9000, 12_000])
  }
}

/** Slow is slower than a wait's deadline for some and faster for others; a slow ToolJet stays within `tooljet.timeoutMs`. */
const SHAPES: Record<FaultKind, (random: Random, slots: number) => Shape> = {
  'instance-kill': (random, slots) => ({ forMs: random.between(0, 1500), slot: random.between(1, slots - 1) }),
  'instance-stop': (random, slots) => ({ forMs: random.between(0, 1500), slot: random.between(1, slots - 1) }),
  // longer than the lock's bound: who held it comes too late
  'instance-stall': (random, slots) => ({ forMs: random.between(3200, 4500), slot: random.between(1, slots - 1) }),
  'redis-stall': (random) => ({ forMs: random.between(200, 3000) }),
  'redis-restart-empty': (random) => ({ forMs: random.between(0, 1500) }),
  'redis-restart-kept': (random) => ({ forMs: random.between(0, 1500) }),
  'redis-cut': (random, slots) => ({ forMs: 0, ...oneOrAll(random, slots) }),
  'redis-black-hole': (random, slots) => ({ forMs: random.between(300, 3000), ...oneOrAll(random, slots) }),
  'redis-refuse': (random, slots) => ({ forMs: random.between(300, 3000), ...oneOrAll(random, slots) }),
  'redis-slow': (random, slots) => ({ forMs: random.between(1000, 4000), amount: random.between(20, 250), ...oneOrAll(random, slots) }),
  'redis-narrow': (random, slots) => ({ forMs: random.between(1000, 3000), amount: random.between(4, 64) * 1024, ...oneOrAll(random, slots) }),
  'redis-lose-replies': (random, slots) => ({ forMs: random.between(2000, 6000), share: random.pick([0.02, 0.1, 0.5]), ...oneOrAll(random, slots) }),
  'redis-kill-clients': (random) => ({ forMs: random.between(2000, 5000) }),
  'tooljet-500': (random) => ({ forMs: random.between(500, 4000), share: shareOf(random) }),
  'tooljet-502': (random) => ({ forMs: random.between(500, 4000), share: shareOf(random) }),
  'tooljet-503': (random) => ({ forMs: random.between(500, 2000), share: shareOf(random), amount: random.between(1, 2) }),
  'tooljet-429': (random) => ({ forMs: random.between(500, 3000), share: shareOf(random), amount: random.between(1, 2) }),
  'tooljet-hang': (random) => ({ forMs: random.between(500, 3000), share: shareOf(random) }),
  'tooljet-cut': (random) => ({ forMs: random.between(500, 3000), share: shareOf(random) }),
  'tooljet-slow': (random) => ({ forMs: random.between(1000, 4000), share: shareOf(random), amount: random.between(100, 800) }),
  'tooljet-garbage': (random) => ({ forMs: random.between(300, 1500), share: shareOf(random) }),
  'tooljet-link-cut': () => ({ forMs: 0 }),
  'tooljet-revoke': (random) => ({ forMs: 0, amount: random.between(3, 20) }),
}

export const FAULT_KINDS = Object.keys(SHAPES) as FaultKind[]

function shareOf (random: Random): number {
  return random.pick([0.3, 0.7, 1])
}

function oneOrAll (random: Random, slots: number): { slot?: number } {
  return random.chance(0.5) ? {} : { slot: random.between(0, slots - 1) }
}

/** A line for people. */
export function tellFault ({ at, kind, forMs, slot, share, amount }: PlannedFault): string {
  const parts = [
    `${(at / 1000).toFixed(1).padStart(7)} s  ${kind.padEnd(20)}`,
    forMs > 0 && `for ${forMs} ms`,
    slot !== undefined && `instance ${slot}`,
    share !== undefined && `${share * 100} % of the ${kind.startsWith('redis') ? 'replies' : 'calls'}`,
    amount !== undefined && `amount ${amount}`,
  ]
  return parts.filter(Boolean).join('  ')
}
