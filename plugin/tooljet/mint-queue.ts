import type { App } from '../access/apps.js'
import { randomId } from '../crypto/random-id.js'
import { embedError, isEmbedError, isRedisOutage, type EmbedError } from '../errors.js'
import type { Log } from '../observability/log.js'
import { Script } from '../redis/script.js'
import type { ScriptClient, ScriptReply } from '../redis/script-client.js'
import type { Timers } from '../timers.js'
import { perMinute, type MintLimit, type Rate } from './mint-limit.js'
import { OwnCalls } from './own-calls.js'
import type { PauseAsked } from './replies.js'
import type { Standing, StandingKeys } from './standings.js'
import type { Tickets } from './tickets.js'

/** Failures in a row after which ToolJet is only probed. */
const MAX_FAILURES = 5
/** Failures that are further apart are not in a row. */
const FAILURES_MS = 180_000
/** From the end of one failed probe to the next. */
const PROBE_PAUSE_MS = 1000
/** A turn that comes so soon is waited for, and not answered with. */
const HELD_MS = 1000
/** While no limit is known, calls are few at first, and soon enough for all. */
const NEXT_LOOK_MS = 100
const MAX_LOOKS_MS = 500
/** From asking for a turn to the call, as it is when nothing is slow. */
const PROMPT_MS = 10
/** Of any window while no limit is known. */
const HOUR_MS = 3_600_000

const QUEUE = ['tooljet/scripts/pause-state.lua', 'tooljet/scripts/queue.lua']
const ADMIT = Script.of(...QUEUE, 'tooljet/scripts/admit.lua')
const BEAT = Script.of('tooljet/scripts/beat.lua')
const BEGUN = Script.of('tooljet/scripts/begun.lua')
const FORGET = Script.of('tooljet/scripts/forget-queue.lua')
const SETTLE = Script.of(...QUEUE, 'tooljet/scripts/settle.lua')

/** So often an instance says that it is there, and looks at what is known of ToolJet. */
const BEAT_MS = 60_000
/** Where there are many ToolJets, for so long after the last mint of one. */
const BEATS_FOR_MS = 3_600_000

/** In the order that the scripts take them. */
const KEYS = ['pause', 'failures', 'probe', 'calls', 'unminted', 'flight', 'queue', 'due', 'tickets', 'instances', 'budget'] as const
type QueueKeys = Record<(typeof KEYS)[number], string>

/** What a call is for: the first URL of a user who has none, another app, a URL in place of a dead one, or a rush to come. */
export type Purpose = 'first' | 'more' | 'replaces' | 'warm'

/** Who wants to mint. */
export interface TurnRequest {
  /** What stands for the user in key names. */
  user: string
  app: App
  purpose: Purpose
  /** As it came with the request. */
  ticket?: string | undefined
  /** How many places a user may have. */
  maxPlaces: number
  /** Milliseconds for which it has been held already. */
  heldMs: number
}

/** A call to ToolJet that may begin. */
export interface Turn {
  /** Its name, after those of earlier calls of the same mint. */
  calls: string[]
  /** Since the first request for it, ms. */
  waitedMs: number
  /** When it was asked for, on the monotonic clock. */
  askedAt: number
}

/** How the mint queue is. */
export interface QueueHealth {
  /** Who waits for a turn. */
  waiting: number
  /** Mints that are granted at present; `null` while no limit is known. */
  perMinute: number | null
  /** Seconds until the turn of who comes now; `null` while ToolJet does not answer. */
  etaSeconds: number | null
}

interface QueueSettings {
  limit: MintLimit
  /** The longest that a call takes, ms. */
  callMs: number
  /** Of any key, ms. A longer pause lasts as long as somebody looks at it that often. */
  longestTtlMs: number
  keyPrefix: string
  /** Stands for the ToolJet. */
  toolJet: string
  instance: string
  /** Of any app, seconds. */
  patExpiry: number
  /** Whether there are no other ToolJets here. */
  isSingleTenant: boolean
}

/**
 * When ToolJet may be called, for the whole fleet through Redis: not during a pause that it asked for, by one probe at a
 * time after repeated failures, and no more often than its limit allows, in the order of first asking. While Redis is
 * unavailable, each instance goes by what it knows itself.
 */
export class MintQueue {
  readonly #scripts: ScriptClient
  readonly #timers: Timers
  readonly #log: Log
  readonly #tickets: Tickets
  readonly #settings: QueueSettings
  readonly #keys: QueueKeys
  readonly #own: OwnCalls
  #pausedUntil = 0
  #failures = 0
  #probingUntil = 0
  /** What Redis said last, and when, on the monotonic clock. */
  #known: { epoch: string, at: number } | undefined
  #learned: Rate | undefined
  #instances = 1
  /** On the monotonic clock: the latest turn that was promised. */
  #promisedUntil = 0
  #admittedAt = -Infinity
  #cancelBeat: (() => void) | undefined
  #isClosed = false

  constructor ({ scripts, timers, log, tickets }: { scripts: ScriptClient, timers: Timers, log: Log, tickets: Tickets }, settings: QueueSettings) {
    this.#scripts = scripts
    this.#timers = timers
    this.#log = log
    this.#tickets = tickets
    this.#settings = settings
    this.#own = new OwnCalls(timers)
    const tag = `{${settings.keyPrefix}tooljet:${settings.toolJet}}:`
    this.#keys = Object.fromEntries(KEYS.map((name) => [name, tag + name])) as QueueKeys
  }

  /** Knows, from now on, how many instances there are, and whether Redis has lost what it knew. */
  open (): void {
    if (this.#settings.limit === false || this.#cancelBeat !== undefined) return
    this.#beat().catch((error: unknown) => this.#log.error({ err: error }, 'tooljet-embed: the mint queue cannot be looked at'))
  }

  close (): void {
    this.#cancelBeat?.()
    this.#isClosed = true
  }

  /**
   * Asks for a turn.
   * @throws TOOLJET_EMBED_BUSY with the place in the queue, TOOLJET_EMBED_UNAVAILABLE while another one probes,
   * TOOLJET_EMBED_RATE_LIMITED when the user waits for too many already
   */
  async admit (request: TurnRequest): Promise<Turn | { heldForMs: number }> {
    const call = randomId(9)
    const askedAt = this.#admittedAt = this.#timers.now()
    this.open()
    const reply = await this.#ask(call, request.purpose, request)
    // what nobody waits for is of use to the fleet alone
    if (reply === undefined) return request.purpose === 'warm' ? { heldForMs: HELD_MS } : this.#admitAlone(call)
    const [kind, ms, again, position, place, ends] = [String(reply[0]), ...reply.slice(1, 6).map(Number)] as [string, number, number, number, number, number]
    switch (kind) {
      case 'granted':
        this.#own.granted(call)
        return { calls: [call], waitedMs: ms, askedAt }
      case 'paused':
        throw embedError('TOOLJET_EMBED_BUSY', { retryAfter: ms / 1000 })
      case 'failing':
        throw unavailable(ms)
      case 'tooManyTickets':
        throw embedError('TOOLJET_EMBED_RATE_LIMITED', { detail: 'the user waits for too many apps already', retryAfter: ms / 1000 })
      default: {
        if (request.purpose === 'warm') return { heldForMs: again }
        const paused = Number(reply[12])
        const held = this.#holds(request, ms, again, paused)
        if (held !== undefined) return { heldForMs: held }
        throw this.#busy(request, { wait: ms, again, position, place, ends, paused })
      }
    }
  }

  /** One more call of the same mint, which counts like any other. @returns whether it may be made */
  async admitRetry (turn: Turn): Promise<boolean> {
    const call = randomId(9)
    const reply = await this.#ask(call, 'again', turn.calls.at(-1)!)
    const isGranted = reply === undefined ? this.#own.take(call, this.#rate, this.#instances) === 0 : String(reply[0]) === 'granted'
    if (!isGranted) return false
    if (reply !== undefined) this.#own.granted(call)
    turn.calls.push(call)
    return true
  }

  /** ToolJet is called now: a call counts from its own begin, be its grant older. */
  begins ({ calls, askedAt }: Turn): void {
    if (this.#settings.limit === false || this.#timers.now() - askedAt < PROMPT_MS) return
    this.#scripts.fireAndForget(BEGUN, [this.#keys.calls], [calls.at(-1)!])
  }

  /** ToolJet has answered: with a URL, or with its verdict. @param outcome 'respelled': the user is asked for once more, and keeps the place */
  async done (turn: Turn, request: TurnRequest, outcome: 'done' | 'denied' | 'respelled'): Promise<void> {
    const hadFailures = this.#failures > 0
    this.#failures = 0
    this.#probingUntil = 0
    this.#own.unminted(outcome === 'done' ? turn.calls.slice(0, -1) : turn.calls)
    if (this.#settings.limit !== false || hadFailures) await this.#settle(outcome, turn, request)
  }

  /** ToolJet is not there. @returns seconds after which to ask again, where that is known: the place in the queue is kept */
  async recordFailure (turn: Turn, request: TurnRequest): Promise<number | undefined> {
    this.#failures++
    if (this.#failures >= MAX_FAILURES) this.#probingUntil = this.#timers.now() + PROBE_PAUSE_MS
    this.#own.unminted(turn.calls)
    const [, again] = (await this.#settle('failed', turn, request))?.map(Number) ?? []
    return again === undefined ? undefined : again / 1000
  }

  /** The call was not made. */
  async unused (turn: Turn, request: TurnRequest): Promise<void> {
    this.#own.drop(turn.calls.at(-1)!)
    await this.#settle('unused', turn, request)
  }

  /** ToolJet asked not to be called. @returns what to answer with: the place in the queue is kept */
  async refused (turn: Turn, asked: PauseAsked, request: TurnRequest): Promise<EmbedError> {
    const ms = Math.ceil(asked.seconds * 1000)
    this.#pausedUntil = Math.max(this.#pausedUntil, this.#timers.now() + ms)
    if (this.#settings.limit === 'auto') this.#own.drop(turn.calls.at(-1)!) // only what is granted counts
    const values = await this.#settle('refused', turn, request, ms, asked.isLimit ? asked.isGiven ? ms : -1 : 0)
    const [wait, again, position, place, ends, paused] = values?.map(Number) ?? []
    if (again === undefined) return embedError('TOOLJET_EMBED_BUSY', { retryAfter: asked.seconds })
    return this.#busy(request, { wait: wait!, again: Math.max(ms, again), position: position!, place: place!, ends: ends!, paused: Math.max(ms, paused!) })
  }

  get standingKeys (): StandingKeys {
    return this.#keys
  }

  /** Seconds of the pause that are left. @param sharedMs what Redis says of it */
  pausedFor (sharedMs: number): number {
    return Math.max(0, sharedMs, this.#pausedUntil - this.#timers.now()) / 1000
  }

  /** How long the queue is; `undefined` where there is none. */
  health ({ waiting = 0, learned, pauseMs }: Standing): QueueHealth | undefined {
    const { limit } = this.#settings
    if (limit === false) return undefined
    const rate = limit === 'auto' ? learned ?? this.#learned : limit
    const isFailing = this.#failures >= MAX_FAILURES
    const turnMs = rate === undefined ? 0 : waiting * rate.timeWindow / rate.max
    return { waiting, perMinute: rate === undefined ? null : perMinute(rate), etaSeconds: isFailing ? null : Math.ceil(Math.max(turnMs, 1000 * this.pausedFor(pauseMs)) / 1000) }
  }

  get #rate (): Rate | undefined {
    const { limit } = this.#settings
    return typeof limit === 'object' ? limit : limit === 'auto' ? this.#learned : undefined
  }

  /** Milliseconds for which to hold a request rather than to send it away; `undefined`: it is sent away. */
  #holds ({ heldMs }: TurnRequest, wait: number, again: number, paused: number): number | undefined {
    if (paused > 0) return undefined
    const isLearning = wait < 0 && this.#rate === undefined && this.#failures < MAX_FAILURES
    if (isLearning) return heldMs < this.#settings.callMs ? Math.min(NEXT_LOOK_MS + heldMs / 4, MAX_LOOKS_MS) : undefined
    if (wait < 0) return undefined
    return again <= HELD_MS && heldMs < 2 * HELD_MS ? Math.max(10, again) : undefined
  }

  #busy ({ user, app }: TurnRequest, { wait, again, position, place, ends, paused }: { wait: number, again: number, position: number, place: number, ends: number, paused: number }): EmbedError {
    this.#promisedUntil = Math.max(this.#promisedUntil, this.#timers.now() + wait)
    // who comes a moment before a slot is held until it is there; nobody comes before the end of a pause
    const retryAfter = Math.max(Math.ceil(paused / 1000), Math.floor(again / 1000))
    const ticket = this.#tickets.encrypt(this.#owner(user, app), { epoch: this.#known?.epoch ?? '-', place, ends })
    return embedError('TOOLJET_EMBED_BUSY', { retryAfter, queue: { position, etaSeconds: wait < 0 ? null : Math.ceil(wait / 1000), ticket } })
  }

  #owner (user: string, app: App) {
    return { toolJet: this.#settings.toolJet, user, app: app.key }
  }

  async #beat (): Promise<void> {
    this.#cancelBeat = (): void => {}
    const { instance, longestTtlMs, limit } = this.#settings
    const at = this.#timers.now()
    try {
      const { values } = await this.#scripts.run(BEAT, [this.#keys.instances, this.#keys.budget], [instance, longestTtlMs])
      const [epoch, max, timeWindow, instances] = [String(values[0]), ...values.slice(1).map(Number)] as [string, number, number, number]
      this.#instances = instances
      // one that is lost stays known, to be told of at the next admission
      if (epoch !== '' && (this.#known === undefined || this.#known.epoch === epoch)) {
        this.#known = { epoch, at }
        if (limit === 'auto') this.#learned = max > 0 ? { max, timeWindow } : undefined
      }
    } catch (error) {
      if (!isEmbedError(error)) throw error
    } finally {
      const isNeeded = !this.#isClosed && (this.#settings.isSingleTenant || at - this.#admittedAt < BEATS_FOR_MS)
      this.#cancelBeat = isNeeded ? this.#timers.after(BEAT_MS, () => { this.#cancelBeat = undefined; this.open() }) : undefined
    }
  }

  /** @returns what Redis says, if it does */
  async #ask (call: string, what: Purpose | 'again', who: TurnRequest | string): Promise<unknown[] | undefined> {
    const { longestTtlMs, callMs, instance, limit } = this.#settings
    const now = this.#timers.now()
    const known = this.#known !== undefined && this.#known.at > now - longestTtlMs ? this.#known.epoch : '-'
    const request = typeof who === 'string' ? undefined : who
    const brought = request && this.#tickets.decrypt(this.#owner(request.user, request.app), request.ticket)
    const unreported = limit === false ? [] : this.#own.unreported(this.#rate?.timeWindow ?? HOUR_MS)
    const reply = await this.#run(ADMIT, call, [
      callMs, instance, known, this.#learned?.max ?? 0, this.#learned?.timeWindow ?? 0, Math.max(0, Math.ceil(this.#promisedUntil - now)),
      typeof who === 'string' ? who : who.user, request?.app.key ?? '-', what, request?.maxPlaces ?? 0,
      brought?.epoch ?? '-', brought?.place ?? 0, brought?.ends ?? 0, ...unreported,
    ])
    if (reply === undefined) return undefined
    const [epoch, max, timeWindow, instances, failures, lastHour, paused] = [String(reply.values[6]), ...reply.values.slice(7).map(Number)] as [string, number, number, number, number, number, number]
    this.#failures = failures
    this.#pausedUntil = now + paused // Redis knows better: its clock may have gone back
    if (limit === false) return reply.values
    this.#own.markReported(unreported)
    if (known !== '-' && known !== epoch) this.#own.markAllUnreported()
    this.#known = { epoch, at: now }
    this.#instances = instances
    if (limit === 'auto') this.#learned = max > 0 ? { max, timeWindow } : undefined
    if (lastHour > 0) this.#warn(lastHour, { max, timeWindow })
    return reply.values
  }

  async #settle (outcome: string, { calls }: Turn, request: TurnRequest, pauseMs = 0, retryAfterMs = 0): Promise<unknown[] | undefined> {
    const [call, ...earlier] = calls.toReversed()
    const whose = request.purpose === 'warm' ? ['-', '-'] : [request.user, request.app.key]
    const reply = await this.#run(SETTLE, call!, [outcome, ...whose, pauseMs, retryAfterMs, FAILURES_MS, PROBE_PAUSE_MS, ...earlier])
    return reply?.values
  }

  async #run (script: Script, call: string, args: (string | number)[]): Promise<ScriptReply | undefined> {
    const { limit, longestTtlMs, callMs } = this.#settings
    const [max, window] = limit === false ? ['off', 0] : limit === 'auto' ? ['auto', 0] : [limit.max, limit.timeWindow]
    const run = (): Promise<ScriptReply> => this.#scripts.run(script, Object.values(this.#keys), [call, longestTtlMs, max, window, callMs, MAX_FAILURES, ...args])
    try {
      return await run().catch(async (error: unknown) => {
        if (!isSpoilt(error)) throw error
        await this.#scripts.run(FORGET, Object.values(this.#keys), [])
        return run()
      })
    } catch (error) {
      if (!isRedisOutage(error)) throw error
      return undefined
    }
  }

  /** Without Redis. */
  #admitAlone (call: string): Turn {
    const now = this.#timers.now()
    if (this.#pausedUntil > now) throw embedError('TOOLJET_EMBED_BUSY', { retryAfter: (this.#pausedUntil - now) / 1000 })
    if (this.#failures >= MAX_FAILURES) {
      if (this.#probingUntil > now) throw unavailable(this.#probingUntil - now)
      this.#probingUntil = now + this.#settings.callMs
    }
    if (this.#settings.limit === false) return { calls: [call], waitedMs: 0, askedAt: now }
    const waitMs = this.#own.take(call, this.#rate, this.#instances)
    if (waitMs > 0) throw embedError('TOOLJET_EMBED_BUSY', { retryAfter: waitMs / 1000 * (1 + this.#timers.random()) })
    return { calls: [call], waitedMs: 0, askedAt: now }
  }

  #warn (lastHour: number, rate: Rate): void {
    const { patExpiry } = this.#settings
    const granted = perMinute(rate)
    const law = { mintsLastHour: lastHour, mintsPerMinute: granted, patExpiry, pairs: Math.floor(granted * patExpiry / 60) }
    this.#log.warn(law, 'tooljet-embed: ToolJet mints nearly as often as it allows, a longer patExpiry serves more users and apps')
  }
}

/** Somebody has put something else into a key of the queue: it would stop all mints for ever. */
function isSpoilt (error: unknown): boolean {
  return isEmbedError(error) && error.isRefusal === true && error.cause instanceof Error && /WRONGTYPE|attempt to|user_script|not a (?:valid )?(?:float|integer)/.test(error.cause.message) && !/NOPERM|can't run this command/i.test(error.cause.message)
}

function unavailable (ms: number): EmbedError {
  return embedError('TOOLJET_EMBED_UNAVAILABLE', { detail: 'it has failed repeatedly', retryAfter: ms / 1000 })
}
