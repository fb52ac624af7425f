import { embedError, isRedisDown, type EmbedError } from '../errors.js'
import type { RedisGuard } from '../redis/guard.js'
import { Script } from '../redis/script.js'

/** Failures in a row after which ToolJet is only probed. */
const MAX_FAILURES = 5
/** Failures that are further apart are not in a row. */
const FAILURES_MS = 60_000
/** From the end of one failed probe to the next. */
const PROBE_PAUSE_MS = 1000

/**
 * KEYS: pause, failures, probe.
 * ARGV: failures after which ToolJet is only probed, bound of a probe in ms ('0': only asks, takes no probe).
 * Returns { 'open' | 'paused' | 'failing', milliseconds left, failures }.
 */
const ENTER = new Script(`
local paused = redis.call('PTTL', KEYS[1])
if paused > 0 then return { 'paused', paused, 0 } end
local failures = tonumber(redis.call('GET', KEYS[2]) or '0')
if failures < tonumber(ARGV[1]) then return { 'open', 0, failures } end
local probing = redis.call('PTTL', KEYS[3])
if probing > 0 then return { 'failing', probing, failures } end
if ARGV[2] ~= '0' then redis.call('SET', KEYS[3], '1', 'PX', ARGV[2]) end
return { 'open', 0, failures }
`)

/** KEYS: pause. ARGV: its length in ms. A shorter pause does not end a longer one. */
const PAUSE = new Script(`
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
end
return 1
`)

/** KEYS: failures, probe. ARGV: life of the failures and pause to the next probe, in ms. */
const FAILED = new Script(`
redis.call('INCR', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
`)

/** KEYS: failures, probe. */
const RECOVERED = new Script("return redis.call('DEL', KEYS[1], KEYS[2])")

export interface GateKeys {
  pause: string
  failures: string
  probe: string
}

/**
 * Whether ToolJet may be called, for the whole fleet through Redis: not while it asked not to be, and after repeated
 * failures by one probe at a time. While Redis is away, each instance goes by what it knows itself.
 */
export class Gate {
  readonly #guard: RedisGuard
  readonly #keys: GateKeys
  readonly #probeMs: number
  #pausedUntil = 0
  #failures = 0
  #probingUntil = 0

  /** @param probeMs the longest that a call takes */
  constructor (guard: RedisGuard, keys: GateKeys, probeMs: number) {
    this.#guard = guard
    this.#keys = keys
    this.#probeMs = probeMs
  }

  /**
   * Asks before a call, without taking part.
   * @throws TOOLJET_EMBED_BUSY during a pause, TOOLJET_EMBED_UNAVAILABLE while another one probes
   */
  async check (): Promise<void> {
    const error = await this.#refusal(0)
    if (error !== undefined) throw error
  }

  /** Takes part: the caller calls now, and tells how it went. @throws as `check` does */
  async enter (): Promise<void> {
    const error = await this.#refusal(this.#probeMs)
    if (error !== undefined) throw error
  }

  /** ToolJet asked not to be called for that long. */
  async pause (seconds: number): Promise<void> {
    const ms = Math.ceil(seconds * 1000)
    this.#pausedUntil = Math.max(this.#pausedUntil, performance.now() + ms)
    await this.#tell((redis) => PAUSE.run(redis, [this.#keys.pause], [ms]))
  }

  async failed (): Promise<void> {
    this.#failures++
    if (this.#failures >= MAX_FAILURES) this.#probingUntil = performance.now() + PROBE_PAUSE_MS
    await this.#tell((redis) => FAILED.run(redis, [this.#keys.failures, this.#keys.probe], [FAILURES_MS, PROBE_PAUSE_MS]))
  }

  /** ToolJet answers. */
  async works (): Promise<void> {
    if (this.#failures === 0) return
    this.#failures = 0
    this.#probingUntil = 0
    await this.#tell((redis) => RECOVERED.run(redis, [this.#keys.failures, this.#keys.probe], []))
  }

  get pauseKey (): string {
    return this.#keys.pause
  }

  /** Seconds of the pause that are left. @param sharedMs what Redis says of it */
  pausedFor (sharedMs: number): number {
    return Math.max(0, sharedMs, this.#pausedUntil - performance.now()) / 1000
  }

  async #refusal (probeMs: number): Promise<EmbedError | undefined> {
    const { pause, failures, probe } = this.#keys
    const shared = await this.#tell((redis) => ENTER.run(redis, [pause, failures, probe], [MAX_FAILURES, probeMs])) as [string, number, number] | undefined
    const [state, left, failed] = shared ?? this.#ownState(probeMs)
    if (shared !== undefined) this.#failures = Number(failed)
    if (state === 'paused') return embedError('TOOLJET_EMBED_BUSY', { retryAfter: Number(left) / 1000 })
    if (state === 'failing') return embedError('TOOLJET_EMBED_UNAVAILABLE', { detail: 'it has failed repeatedly', retryAfter: Number(left) / 1000 })
    return undefined
  }

  #ownState (probeMs: number): [state: string, left: number, failures: number] {
    const now = performance.now()
    if (this.#pausedUntil > now) return ['paused', this.#pausedUntil - now, this.#failures]
    if (this.#failures < MAX_FAILURES) return ['open', 0, this.#failures]
    if (this.#probingUntil > now) return ['failing', this.#probingUntil - now, this.#failures]
    this.#probingUntil = now + probeMs
    return ['open', 0, this.#failures]
  }

  async #tell<T> (command: Parameters<RedisGuard['run']>[0]): Promise<T | undefined> {
    try {
      return await this.#guard.run(command) as T
    } catch (error) {
      if (!isRedisDown(error)) throw error
      return undefined
    }
  }
}
