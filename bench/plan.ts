/** How much of everything. */
export interface Plan {
  /** After that everything is stopped, and the run has failed. */
  boundMs: number
  connections: number
  users: number
  rounds: number
  /** Of load in one round, whole ones. */
  seconds: number
  warmUpSeconds: number
  roundTrips: { asks: number, delayMs: number }
  stampede: { asks: number, processes: number, latencyMs: number, rounds: number }
  /** Of two processes that do the same one may always be a little faster: several servers for each size. */
  growth: { sizes: number[], serversEach: number, askedUsers: number, rounds: number, seconds: number }
  audit: { events: number, users: number, apps: number, queries: number }
  monday: { users: number }
}

/** About a quarter of an hour on two cores that have nothing else to do. */
export const FULL: Plan = {
  boundMs: 25 * 60_000,
  connections: 50,
  users: 100,
  rounds: 15,
  seconds: 1,
  warmUpSeconds: 5,
  roundTrips: { asks: 9, delayMs: 20 },
  stampede: { asks: 10_000, processes: 4, latencyMs: 500, rounds: 5 },
  growth: { sizes: [1000, 10_000, 100_000, 1_000_000], serversEach: 3, askedUsers: 1000, rounds: 15, seconds: 2 },
  audit: { events: 1_000_000, users: 10_000, apps: 20, queries: 200 },
  monday: { users: 500 },
}

/** Shows that all of it runs; its figures say nothing. */
export const QUICK: Plan = {
  boundMs: 5 * 60_000,
  connections: 50,
  users: 100,
  rounds: 1,
  seconds: 1,
  warmUpSeconds: 0,
  roundTrips: { asks: 3, delayMs: 20 },
  stampede: { asks: 400, processes: 4, latencyMs: 500, rounds: 1 },
  growth: { sizes: [100, 1000], serversEach: 1, askedUsers: 100, rounds: 1, seconds: 1 },
  audit: { events: 2000, users: 100, apps: 5, queries: 5 },
  monday: { users: 30 },
}
