import { embedError, type EmbedError } from '../errors.js'
import type { Timers } from '../timers.js'
import type { RedisCircuitBreaker } from './circuit-breaker.js'
import type { RedisClock } from './clock.js'
import type { RedisArgument, RedisLike } from './redis-like.js'
import type { Script } from './script.js'

/** How long after the bound of a wait a script may still have an effect, by Redis's clock. */
const SPARE_MS = 2000

/** The reply of a script, with the times it was sent and run at. */
export interface ScriptReply {
  /** Redis's time at which it ran, ms. */
  at: number
  /** When it was sent, on the monotonic clock. */
  sentAt: number
  values: unknown[]
}

/**
 * Runs scripts that begin with the prelude. Each call carries the moment after which it does nothing, so that a
 * call that the client sends again after a lost connection takes effect soon or never; each reply sets the clock.
 */
export class ScriptClient {
  readonly #breaker: RedisCircuitBreaker
  readonly #clock: RedisClock
  readonly #timers: Timers

  constructor (deps: { breaker: RedisCircuitBreaker, clock: RedisClock, timers: Timers }) {
    this.#breaker = deps.breaker
    this.#clock = deps.clock
    this.#timers = deps.timers
  }

  /** @throws TOOLJET_EMBED_REDIS_DOWN as `RedisCircuitBreaker.run` does */
  run (script: Script, keys: readonly string[], args: readonly RedisArgument[]): Promise<ScriptReply> {
    return this.#inTime(() => this.#breaker.run((redis) => this.#send(redis, script, keys, args)), clockJumps)
  }

  /**
   * Sends it once, for what would take effect again where an earlier sending of it is forgotten by now: this process may have
   * been suspended since.
   * @returns nothing when it came too late; the clock is right again then
   * @throws TOOLJET_EMBED_REDIS_DOWN as `RedisCircuitBreaker.run` does
   */
  async runOnce (script: Script, keys: readonly string[], args: readonly RedisArgument[]): Promise<ScriptReply | undefined> {
    const reply = await this.#breaker.run((redis) => this.#send(redis, script, keys, args))
    return isLate(reply) ? undefined : reply
  }

  /** Whatever the state of Redis. @throws what the client throws */
  attempt (script: Script, keys: readonly string[], args: readonly RedisArgument[]): Promise<ScriptReply> {
    return this.#inTime(() => this.#breaker.attempt((redis) => this.#send(redis, script, keys, args)), () => new Error('the clock of Redis jumps'))
  }

  /** Sends it without waiting, and without a deadline: for what may be done at any later time. */
  fireAndForget (script: Script, keys: readonly string[], args: readonly RedisArgument[]): void {
    this.#breaker.fireAndForget((redis) => script.runForBytes(redis, keys, [0, ...args], () => this.#breaker.recordAnswer()))
  }

  /** Whether keys of one call have to be in one slot. */
  get isCluster (): boolean {
    return this.#breaker.isCluster
  }

  /** Tries twice: after a reply 'late' the clock is right again, which had jumped, or this process was suspended. */
  async #inTime (send: () => Promise<ScriptReply>, tooLate: () => Error): Promise<ScriptReply> {
    const reply = await send()
    if (!isLate(reply)) return reply
    const again = await send()
    if (isLate(again)) throw tooLate()
    return again
  }

  async #send (redis: RedisLike, script: Script, keys: readonly string[], args: readonly RedisArgument[]): Promise<ScriptReply> {
    const sentAt = this.#timers.now()
    const deadline = this.#clock.deadline(this.#breaker.timeoutMs + SPARE_MS)
    const run = (): Promise<unknown> => script.runForBytes(redis, keys, [deadline, ...args], () => this.#breaker.recordAnswer())
    const [time, ...values] = await (this.isCluster ? this.#followingSlots(run) : run()) as unknown[]
    const at = Number(time)
    this.#clock.observe(at, sentAt)
    return { at, sentAt, values }
  }

  async #followingSlots (run: () => Promise<unknown>): Promise<unknown> {
    for (let moves = 1; ; moves++) {
      try {
        return await run()
      } catch (error) {
        if (moves > MAX_MOVES || !(error instanceof Error) || !MOVED.test(error.message)) throw error
        await this.#timers.sleep(10 * 2 ** moves)
      }
    }
  }
}

export function clockJumps (): EmbedError {
  return embedError('TOOLJET_EMBED_REDIS_DOWN', { detail: 'its clock jumps' })
}

/** A Cluster client with auto-pipelining may return that a slot has moved, in place of following it. */
const MOVED = /^(?:MOVED|ASK) /
const MAX_MOVES = 4

function isLate ({ values: [first] }: ScriptReply): boolean {
  return first instanceof Buffer && first.equals(LATE)
}

const LATE = Buffer.from('late')
