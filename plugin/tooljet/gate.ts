import { randomBytes } from 'node:crypto'
import { embedError, isEmbedError, type EmbedError } from '../errors.js'
import { Script } from '../redis/script.js'
import type { ScriptClient } from '../redis/script-client.js'
import type { Timers } from '../timers.js'

/** Failures in a row after which ToolJet is only probed. */
const MAX_FAILURES = 5
/** Failures that are further apart are not in a row. */
const FAILURES_MS = 60_000
/** As long as any pause is. */
const MAX_PAUSE_MS = 3_600_000
/** From the end of one failed probe to the next. */
const PROBE_PAUSE_MS = 1000

const ENTER = Script.of('tooljet/scripts/pause-state.lua', 'tooljet/scripts/enter.lua')
const PAUSE = Script.of('tooljet/scripts/pause-state.lua', 'tooljet/scripts/pause.lua')
const FAILED = Script.of('tooljet/scripts/failed.lua')
const RECOVERED = Script.of('tooljet/scripts/recovered.lua')

export interface GateKeys {
  pause: string
  failures: string
  probe: string
}

/** One set for all who use the same ToolJet. @param toolJetHash stands for it */
export function gateKeys (prefix: string, toolJetHash: string): GateKeys {
  const tag = `{${prefix}tooljet:${toolJetHash}}:`
  return { pause: `${tag}pause`, failures: `${tag}failures`, probe: `${tag}probe` }
}

/**
 * Whether ToolJet may be called, for the whole fleet through Redis: not during a pause that it asked for, and after repeated
 * failures by one probe at a time. While Redis is unavailable, each instance goes by what it knows itself.
 */
export class Gate {
  readonly #scripts: ScriptClient
  readonly #timers: Timers
  readonly #keys: GateKeys
  readonly #probeMs: number
  readonly #longestTtlMs: number
  #pausedUntil = 0
  #failures = 0
  #probingUntil = 0

  /**
   * @param probeMs the longest that a call takes
   * @param longestTtlMs of any key; a longer pause lasts as long as somebody looks at it that often
   */
  constructor ({ scripts, timers }: { scripts: ScriptClient, timers: Timers }, keys: GateKeys, probeMs: number, longestTtlMs = MAX_PAUSE_MS) {
    this.#scripts = scripts
    this.#timers = timers
    this.#keys = keys
    this.#probeMs = probeMs
    this.#longestTtlMs = longestTtlMs
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
    this.#pausedUntil = Math.max(this.#pausedUntil, this.#timers.now() + ms)
    await this.#tell(PAUSE, [this.#keys.pause], [ms, newCall(), this.#longestTtlMs])
  }

  async failed (): Promise<void> {
    this.#failures++
    if (this.#failures >= MAX_FAILURES) this.#probingUntil = this.#timers.now() + PROBE_PAUSE_MS
    await this.#tell(FAILED, [this.#keys.failures, this.#keys.probe], [FAILURES_MS, PROBE_PAUSE_MS, newCall()])
  }

  /** ToolJet answers. */
  async works (): Promise<void> {
    if (this.#failures === 0) return
    this.#failures = 0
    this.#probingUntil = 0
    await this.#tell(RECOVERED, [this.#keys.failures, this.#keys.probe], [])
  }

  get pauseKey (): string {
    return this.#keys.pause
  }

  /** Seconds of the pause that are left. @param sharedMs what Redis says of it */
  pausedFor (sharedMs: number): number {
    return Math.max(0, sharedMs, this.#pausedUntil - this.#timers.now()) / 1000
  }

  async #refusal (probeMs: number): Promise<EmbedError | undefined> {
    const { pause, failures, probe } = this.#keys
    const shared = await this.#tell(ENTER, [pause, failures, probe], [MAX_FAILURES, probeMs, newCall(), this.#longestTtlMs])
    const [state, left, failed] = shared === undefined ? this.#ownState(probeMs) : [String(shared[0]), Number(shared[1]), Number(shared[2])]
    if (shared !== undefined) this.#failures = failed!
    if (state === 'paused') return embedError('TOOLJET_EMBED_BUSY', { retryAfter: left! / 1000 })
    if (state === 'failing') return embedError('TOOLJET_EMBED_UNAVAILABLE', { detail: 'it has failed repeatedly', retryAfter: left! / 1000 })
    return undefined
  }

  #ownState (probeMs: number): [state: string, left: number, failures: number] {
    const now = this.#timers.now()
    if (this.#pausedUntil > now) return ['paused', this.#pausedUntil - now, this.#failures]
    if (this.#failures < MAX_FAILURES) return ['open', 0, this.#failures]
    if (this.#probingUntil > now) return ['failing', this.#probingUntil - now, this.#failures]
    this.#probingUntil = now + probeMs
    return ['open', 0, this.#failures]
  }

  /** What Redis says, if it does. */
  async #tell (script: Script, keys: string[], args: (string | number)[]): Promise<unknown[] | undefined> {
    try {
      return (await this.#scripts.run(script, keys, args)).values
    } catch (error) {
      if (!isEmbedError(error) || error.code !== 'TOOLJET_EMBED_REDIS_DOWN') throw error
      return undefined
    }
  }
}

/** By which a call that is sent again is known. */
function newCall (): string {
  return randomBytes(9).toString('base64url')
}
