/** Sizes of all parts of a run. */
export interface Plan {
  /** After this time everything is stopped, and the run has failed. */
  boundMs: number
  connections: number
  users: number
  rounds: number
  /** Whole seconds of load in one round. */
  seconds: number
  warmUpSeconds: number
  roundTrips: { requests: number, delayMs: number }
  stampede: { requests: number, processes: number, latencyMs: number, rounds: number }
  /** Several servers for each size, because of two equal processes one may always be a little faster. */
  cacheSize: { sizes: number[], serversEach: number, activeUsers: number, rounds: number, seconds: number }
  audit: { events: number, users: number, apps: number, queries: number }
  loginStorm: { users: number }
}

/** About a quarter of an hour on two cores that have nothing else to do. */
export const FULL: Plan = {
  boundMs: 25 * 60_000,
  connections: 50,
  users: 100,
  rounds: 15,
  seconds: 1,
  warmUpSeconds: 5,
  roundTrips: { requests: 9, delayMs: 20 },
  stampede: { requests: 10_000, processes: 4, latencyMs: 500, rounds: 5 },
  cacheSize: { sizes: [1000, 10_000, 100_000, 1_000_000], serversEach: 3, activeUsers: 1000, rounds: 15, seconds: 2 },
  audit: { events: 1_000_000, users: 10_000, apps: 20, queries: 200 },
  loginStorm: { users: 500 },
}

/** Only shows that all of it runs; its figures mean nothing. */
export const QUICK: Plan = {
  boundMs: 5 * 60_000,
  connections: 50,
  users: 100,
  rounds: 1,
  seconds: 1,
  warmUpSeconds: 0,
  roundTrips: { requests: 3, delayMs: 20 },
  stampede: { requests: 400, processes: 4, latencyMs: 500, rounds: 1 },
  cacheSize: { sizes: [100, 1000], serversEach: 1, activeUsers: 100, rounds: 1, seconds: 1 },
  audit: { events: 2000, users: 100, apps: 5, queries: 5 },
  loginStorm: { users: 30 },
}
