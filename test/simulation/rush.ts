import type { MintLimit, Rate } from '../../plugin/tooljet/mint-limit.js'
import { isEmbedError, type EmbedError } from '../../plugin/errors.js'
import type { RedisLike } from '../../plugin/redis/redis-like.js'
import type { TooljetEmbedWarmReport } from '../../plugin/warm.js'
import type { Random } from '../chaos/random.js'
import { SimulatedClient } from './client.js'
import { Decisions, randomFor } from './decisions.js'
import { createInstance, type Instance } from './instance.js'
import { ARRIVALS, Process, Scheduler } from './scheduler.js'
import { RedisServer, type RealRedis } from './server.js'
import { TOOLJET_URL, type HttpReply } from './tooljet.js'

/*
 * Many users of a portal come within a short time, in virtual time, while ToolJet allows few mints. Each does what the
 * answer says: asks again when it says so, with the ticket that it was given.
 */

export interface RushPlan {
  seed: number
  users: number
  /** Within which they come, ms. */
  within: number
  /** Before the first of them comes, ms. */
  quiet?: number
  instances: number
  mintLimit: MintLimit
  /** What ToolJet allows; none: everything. */
  toolJet: Rate | undefined
  /** A ToolJet with ideas of its own: a 429, with these seconds as `Retry-After`, or none. @param granted moments of the calls that were granted */
  refuses?: (email: string, now: number, granted: number[]) => { retryAfter?: number } | undefined
  /** Whether ToolJet's 429 says for how long. */
  retryAfter?: boolean
  /** Whether ToolJet's limit counts the calls that it denies. */
  countsDenied?: boolean
  patExpiry?: number
  /** Of a mint call, ms. */
  latencyMs?: number
  /** A night before in which the cache is filled for all users: how long it may take, ms. */
  night?: number
  /** Users with habits of their own, who are not of the others. */
  guests?: Guest[]
  /** What goes wrong, and when, ms. */
  faults?: { at: number, what: 'kill' | 'wipe' | 'redis away' | 'tooljet down' | 'tooljet allows more', ms?: number, max?: number }[]
  /** Users who never come back after their first answer, 0 to 1. */
  leave?: number
  /** Users who never come back after their first answer, by their number. */
  leaves?: (user: number) => boolean
  /** After so long it ends in any case, ms. */
  atMost?: number
}

/** What came of a request: of a process that died on it, nothing. */
interface Outcome {
  answer?: { urlId: string }
  error?: EmbedError
}

/** @returns the app to ask for next (from `APPS` on: ToolJet has none such), and after how many ms; nothing: is done */
export type Guest = (last: Outcome | undefined, times: number) => { afterMs: number, app?: number, replaces?: string | undefined, ticket?: string } | undefined

export interface RushResult {
  served: number
  calls: number
  refused: number
  /** Pairs of users of whom the one who came later was served first, among all pairs. */
  inversions: number
  /** Of the slots from the first answer without a URL to the last user served. */
  slotsUsed: number
  /** |promised − real| of all answers with a promise: 90th percentile in ms, and the share of promises that are neither within 12 s nor within 10 %. */
  promise: { p90: number, wrong: number }
  /** ms from first asking to the URL. */
  wait: { p50: number, p95: number, last: number }
  /** Of a user who waited. */
  requests: { p50: number, most: number }
  /** The most calls that began in any window of ToolJet's. */
  busiestWindow: number
  /** Calls for the guests. */
  guestCalls: number
  codes: Record<string, number>
  /** What filling the cache came to, and how long it took, ms. */
  warmed?: TooljetEmbedWarmReport & { took: number }
}

interface Life {
  process: Process
  client: SimulatedClient
  instance: Instance
}

interface User {
  email: string
  cameAt: number
  requests: number
  servedAt?: number
  promises: { at: number, etaMs: number }[]
}

/** Apps that ToolJet has. */
export const APPS = 20
const appId = (app: number): string => `${String(app).padStart(8, '0')}-1111-4111-8111-111111111111`

let rushes = 0

export async function runRush (plan: RushPlan, real: RealRedis): Promise<RushResult> {
  return new Rush(plan, real).run()
}

class Rush {
  readonly #plan: RushPlan
  readonly #scheduler = new Scheduler()
  readonly #random: Random
  readonly #server: RedisServer
  readonly #prefix = `rush${process.pid}x${++rushes}:`
  readonly #lives: Life[] = []
  readonly #all: Life[] = []
  readonly #users: User[] = []
  readonly #calls: { at: number, granted: boolean, counts: boolean, isGuest: boolean }[] = []
  readonly #codes: Record<string, number> = {}
  readonly #uncaught: unknown[] = []
  #firstWait: number | undefined
  #warmed: RushResult['warmed']
  #downUntil = 0
  #allowed: number | undefined
  #open = 0

  constructor (plan: RushPlan, real: RealRedis) {
    this.#plan = plan
    this.#random = randomFor(plan.seed, 'rush')
    this.#server = new RedisServer(real, this.#prefix, this.#scheduler)
  }

  async run (): Promise<RushResult> {
    const { users, within, quiet = 0, instances, guests = [], faults = [], atMost = 1e9, night } = this.#plan
    for (let slot = 0; slot < instances; slot++) await this.#start(slot)
    if (night !== undefined) await this.#warm(night)
    for (let i = 0; i < users; i++) {
      this.#open++
      const user: User = { email: `user${i}@test`, cameAt: 0, requests: 0, promises: [] }
      this.#users.push(user)
      this.#after(10 + quiet + this.#random.next() * within, () => {
        user.cameAt = this.#scheduler.now
        this.#watch(this.#ask(user))
      })
    }
    for (const [i, guest] of guests.entries()) this.#watch(this.#host(`guest${i}@test`, guest))
    for (const { at, what, ms = 0, max = 0 } of faults) {
      this.#after(at, () => {
        if (what === 'kill') this.#kill(0)
        if (what === 'wipe') return this.#server.restore([]).then(() => { for (const { client } of this.#lives) client.cut() })
        if (what === 'tooljet allows more') this.#allowed = max
        if (what === 'tooljet down') this.#downUntil = this.#scheduler.now + ms
        if (what === 'redis away') for (const { client } of this.#lives) { client.refusedUntil = this.#scheduler.now + ms; client.cut() }
        return undefined
      })
    }
    await this.#scheduler.run(() => this.#open === 0 || this.#uncaught.length > 0, atMost)
    for (const { instance, client, process } of this.#all) {
      instance.stop()
      client.close()
      process.alive = false
    }
    await this.#server.restore([])
    if (this.#uncaught.length > 0) throw this.#uncaught[0]
    return this.#result()
  }

  #watch (promise: Promise<unknown>): void {
    promise.catch((error: unknown) => this.#uncaught.push(error))
  }

  #after (ms: number, run: () => void | Promise<void>): void {
    this.#scheduler.add(this.#scheduler.now + ms, ARRIVALS, undefined, async () => {
      await run()
      await new Promise<void>((resolve) => { setImmediate(resolve) })
    })
  }

  #sleep (ms: number): Promise<void> {
    return new Promise((resolve) => { this.#after(ms, resolve) })
  }

  async #start (slot: number): Promise<void> {
    const { seed, mintLimit, patExpiry = 3600 } = this.#plan
    const scheduler = this.#scheduler
    const process = new Process(`${'ABCDEFGH'[slot]!}${this.#all.length}`)
    const client = new SimulatedClient({
      process,
      scheduler,
      server: this.#server,
      decisions: new Decisions(seed),
      kind: { offlineQueue: true, maxRetries: 20 },
      mishaps: { slow: 0, verySlow: 0, cutBefore: 0, cutAfter: 0, longAway: 0, crash: 0, stall: 0 },
      slowMs: 1000,
      note: () => {},
      nameOf: () => '',
    })
    const instance = createInstance({
      redis: client as unknown as RedisLike,
      timers: scheduler.timersOf(process, randomFor(seed, process.name)),
      settings: { patExpiry, minRemaining: 60, max: 60, mints: 6, timeWindow: 60_000, mintLimit, onRedisDown: 'serve', redisTimeoutMs: 1000, tooljetTimeoutMs: 10_000 },
      keyPrefix: this.#prefix,
      callTooljet: (body: { email: string, appId: string }) => this.#mint(process, body),
      onEvent: () => {},
    })
    this.#lives[slot] = { process, client, instance }
    this.#all.push(this.#lives[slot])
    client.connect()
    let isReady = false
    this.#watch(instance.start().then(() => { isReady = true }))
    if (scheduler.now === 0) await scheduler.run(() => isReady, 5000)
  }

  async #warm (night: number): Promise<void> {
    const { now } = this.#scheduler
    const pairs = Array.from({ length: this.#plan.users }, (_, i): [string, string] => [`user${i}@test`, `id:${appId(0)}`])
    this.#watch(this.#lives[0]!.instance.warm(pairs, {}).then((report) => { this.#warmed = { ...report, took: this.#scheduler.now - now } }))
    await this.#scheduler.run(() => this.#warmed !== undefined || this.#uncaught.length > 0, now + night)
    this.#calls.length = 0
  }

  /** `kill -9`: what it was doing is never answered, and its users ask another one, which comes in its place. */
  #kill (slot: number): void {
    const life = this.#lives[slot]!
    life.process.alive = false
    life.client.die()
    this.#watch(this.#start(slot))
  }

  #mint (process: Process, { email, appId: id }: { email: string, appId: string }): Promise<HttpReply> {
    const { toolJet, latencyMs = 500, retryAfter = true, countsDenied = false } = this.#plan
    const { now } = this.#scheduler
    const took = latencyMs * (0.5 + this.#random.next())
    if (now < this.#downUntil) return this.#reply(process, 5, { statusCode: 500, headers: {}, text: '{}' })
    const granted = this.#calls.filter((call) => call.counts && toolJet !== undefined && call.at > now - toolJet.timeWindow)
    const refusal = this.#plan.refuses?.(email, now, this.#calls.filter((call) => call.granted).map((call) => call.at))
    const isGranted = refusal === undefined && (toolJet === undefined || granted.length < (this.#allowed ?? toolJet.max))
    const isDenied = Number(id.slice(0, 8)) >= APPS
    this.#calls.push({ at: now, granted: isGranted, counts: isGranted && (countsDenied || !isDenied), isGuest: email.startsWith('guest') })
    if (isGranted && isDenied) return this.#reply(process, took, { statusCode: 400, headers: {}, text: errorText(400, 'Invalid appId or appSlug') })
    if (isGranted) {
      const redirectUrl = `${TOOLJET_URL}/embed-apps/${id}?personal-access-token=pat_${this.#calls.length}`
      return this.#reply(process, took, { statusCode: 201, headers: {}, text: JSON.stringify({ personalAccessToken: 'pat', redirectUrl }) })
    }
    const seconds = refusal === undefined ? Math.ceil((granted[0]!.at + toolJet!.timeWindow - now) / 1000) : refusal.retryAfter
    return this.#reply(process, 5, { statusCode: 429, headers: retryAfter && seconds !== undefined ? { 'retry-after': String(seconds) } : {}, text: errorText(429, 'ThrottlerException: Too Many Requests') })
  }

  #reply (process: Process, ms: number, reply: HttpReply): Promise<HttpReply> {
    return new Promise((resolve) => { this.#scheduler.add(this.#scheduler.now + ms, ARRIVALS, process, () => { resolve(reply) }) })
  }

  /** One request; of a process that dies on it: nothing, after a while. */
  async #request (email: string, app: number, replaces?: string, ticket?: string): Promise<Outcome | undefined> {
    await this.#sleep(5 + this.#random.next() * 40) // the network
    const { instance } = this.#random.pick(this.#lives)
    return Promise.race([
      instance.request('', email, `id:${appId(app)}`, replaces, ticket).then((answer) => ({ answer }), (error: unknown) => {
        if (!isEmbedError(error)) this.#uncaught.push(error)
        return { error: error as EmbedError }
      }),
      this.#sleep(40_000).then(() => undefined),
    ])
  }

  async #ask (user: User): Promise<void> {
    let ticket: string | undefined
    for (;;) {
      user.requests++
      const reply = await this.#request(user.email, 0, undefined, ticket)
      if (reply?.answer !== undefined) {
        user.servedAt = this.#scheduler.now
        break
      }
      const { code = 'no answer', queue, retryAfter = 1 } = reply?.error ?? {}
      this.#codes[code] = (this.#codes[code] ?? 0) + 1
      this.#firstWait ??= this.#scheduler.now
      if (queue !== undefined) {
        ticket = queue.ticket
        if (queue.etaSeconds !== null) user.promises.push({ at: this.#scheduler.now, etaMs: queue.etaSeconds * 1000 })
      }
      if (this.#random.chance(this.#plan.leave ?? 0) || this.#plan.leaves?.(this.#users.indexOf(user)) === true) break
      await this.#sleep(retryAfter * 1000)
    }
    this.#open--
  }

  async #host (email: string, guest: Guest): Promise<void> {
    let last: Outcome | undefined
    for (let times = 0; ; times++) {
      const next = guest(last, times)
      if (next === undefined || this.#open === 0) return
      await this.#sleep(next.afterMs)
      last = await this.#request(email, next.app ?? 0, next.replaces, next.ticket)
    }
  }

  #result (): RushResult {
    const { toolJet, mintLimit } = this.#plan
    const served = this.#users.filter((user) => user.servedAt !== undefined)
    const waits = sorted(served.map(({ cameAt, servedAt }) => servedAt! - cameAt))
    const misses = served.flatMap(({ servedAt, promises }) => promises.map(({ at, etaMs }) => ({ off: Math.abs(servedAt! - at - etaMs), real: servedAt! - at })))
    const waiting = sorted(served.filter(({ requests }) => requests > 1).map(({ requests }) => requests))
    const last = Math.max(...served.map(({ servedAt }) => servedAt!))
    const rate = toolJet ?? (typeof mintLimit === 'object' ? mintLimit : undefined)
    const busy = this.#calls.filter(({ at, granted }) => granted && at >= (this.#firstWait ?? Infinity) && at <= last).length
    const slots = rate === undefined || this.#firstWait === undefined ? NaN : (last - this.#firstWait) / rate.timeWindow * rate.max
    return {
      served: served.length,
      calls: this.#calls.length,
      refused: this.#calls.filter(({ granted }) => !granted).length,
      inversions: inversionsOf(served.toSorted((one, other) => one.cameAt - other.cameAt).map(({ servedAt }) => servedAt!)),
      slotsUsed: busy / slots,
      promise: { p90: at(sorted(misses.map(({ off }) => off)), 0.9), wrong: misses.filter(({ off, real }) => off > 12_000 && off > 0.1 * real).length / misses.length },
      wait: { p50: at(waits, 0.5), p95: at(waits, 0.95), last: at(waits, 1) },
      requests: { p50: at(waiting, 0.5), most: at(waiting, 1) },
      busiestWindow: rate === undefined ? NaN : Math.max(...this.#calls.map(({ at }, i) => this.#calls.slice(0, i + 1).filter((other) => other.at > at - rate.timeWindow).length)),
      guestCalls: this.#calls.filter(({ isGuest }) => isGuest).length,
      codes: this.#codes,
      ...(this.#warmed && { warmed: this.#warmed }),
    }
  }
}

function errorText (statusCode: number, message: string): string {
  return JSON.stringify({ statusCode, timestamp: '', path: '', message })
}

function sorted (numbers: number[]): number[] {
  return numbers.toSorted((one, other) => one - other)
}

function at (numbers: number[], share: number): number {
  return numbers[Math.min(numbers.length - 1, Math.floor(share * numbers.length))] ?? NaN
}

/** Pairs in the wrong order, among all. */
function inversionsOf (numbers: number[]): number {
  let count = 0
  const sort = (list: number[]): number[] => {
    if (list.length < 2) return list
    const half = list.length >> 1
    const [left, right] = [sort(list.slice(0, half)), sort(list.slice(half))]
    const merged: number[] = []
    let [i, j] = [0, 0]
    while (i < left.length || j < right.length) {
      if (j >= right.length || (i < left.length && left[i]! <= right[j]!)) merged.push(left[i++]!)
      else {
        merged.push(right[j++]!)
        count += left.length - i
      }
    }
    return merged
  }
  sort(numbers)
  return count / (numbers.length * (numbers.length - 1) / 2)
}
