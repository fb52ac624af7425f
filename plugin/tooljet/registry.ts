import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import { LRUCache } from 'lru-cache'
import { optionError } from '../config/option-checks.js'
import { embedError } from '../errors.js'
import type { ScriptClient } from '../redis/script-client.js'
import type { Timers } from '../timers.js'
import { KeyNames } from '../crypto/names.js'
import { AccessCheck } from './access-check.js'
import { ToolJetClient } from './client.js'
import { MintQueue } from './mint-queue.js'
import { proxyOf, type Pools } from './pools.js'
import { standingsOf } from './standings.js'
import { parseTarget, type Target, type TooljetOfRequest } from './target.js'
import { Tickets } from './tickets.js'
import { ToolJet, type TooljetHealth } from './tooljet.js'

const MAX_TOOLJETS = 1000
/** A ToolJet that was not used for this long may no longer exist: its token renewed, or its address changed. */
const IDLE_TTL_MS = 3_600_000
/** Cached user hashes of each ToolJet, where there are several. */
const MAX_USERS_EACH = 500
/** An invalid target is logged again after this time. */
const LOGGED_AGAIN_MS = 60_000

/** The part of `health()` about the ToolJets. */
export interface TooljetsHealth {
  /** With several ToolJets, that of the one in the worst state. */
  tooljet: TooljetHealth
  /** Where `tooljet` is a function: each one that this instance knows. */
  tooljets?: Array<TooljetHealth & { url: string }>
}

/** The ToolJets of this instance. */
export interface ToolJetRegistry {
  /** Origins of embed URLs that are known before any request. */
  readonly origins: readonly string[]
  /** Name in the audit log: the URL where there are several ToolJets, else nothing. */
  displayNameOf (tooljet: ToolJet | undefined): string | undefined
  /**
   * The ToolJet that a request is for.
   * @throws TOOLJET_EMBED_TENANT_UNKNOWN, TOOLJET_EMBED_MISCONFIGURED, and what the host's function throws
   */
  forRequest (request: FastifyRequest): ToolJet | Promise<ToolJet>
  /** The ToolJet of a target that the host gave. @throws TOOLJET_EMBED_BAD_REQUEST */
  fromTarget (target: unknown): ToolJet
  health (): Promise<TooljetsHealth>
  /** Stops all calls to Redis for the queues. */
  close (): void
}

interface ToolJetDeps {
  pools: Pools
  scripts: ScriptClient
  timers: Timers
  log: FastifyBaseLogger
  tickets: Tickets
  keyPrefix: string
  /** Of purpose `key names`. */
  namesKey: Buffer
  redisTimeoutMs: number
  /** Of any key in Redis, ms. */
  longestTtlMs: number
  /** Of any app, seconds. */
  patExpiry: number
  instance: string
}

export function createRegistry (option: Target | TooljetOfRequest, deps: ToolJetDeps): ToolJetRegistry {
  const { namesKey, log, scripts } = deps
  if (typeof option !== 'function') {
    // named by its URL alone: cached URLs stay in use when the token changes
    const tooljet = makeToolJet(option, new KeyNames(namesKey, option.url), { ...deps, isSingleTenant: true })
    tooljet.open()
    return new SingleTenantRegistry(tooljet, scripts)
  }
  return new MultiTenantRegistry(option, (target) => {
    // named by the token, too: a tenant who enters somebody else's URL gets nothing that is cached there
    const names = new KeyNames(namesKey, JSON.stringify([target.url, target.apiToken]), MAX_USERS_EACH)
    return makeToolJet(target, names, { ...deps, log: log.child({ tooljet: target.url }) })
  }, scripts)
}

function makeToolJet (target: Target, names: KeyNames, { pools, scripts, timers, log, tickets, keyPrefix, namesKey, redisTimeoutMs, longestTtlMs, patExpiry, instance, isSingleTenant = false }: ToolJetDeps & { isSingleTenant?: boolean }): ToolJet {
  const { url, embedOrigins, checkAccess } = target
  const proxy = target.dispatcher === undefined ? proxyOf(url) : undefined
  if (proxy !== undefined) log.info({ proxy: proxy.host }, 'tooljet-embed: ToolJet is called through a proxy')
  const client = new ToolJetClient(pools, timers, target)
  if (typeof target.mintLimit === 'object' && target.mintLimit.timeWindow > longestTtlMs) {
    throw optionError('tooljet.mintLimit.timeWindow', 'no more than the longest patExpiry, or three minutes: nothing in Redis lives longer', `${target.mintLimit.timeWindow} ms`)
  }
  const queue = new MintQueue({ scripts, timers, log, tickets }, {
    limit: target.mintLimit,
    callMs: target.timeoutMs + redisTimeoutMs,
    longestTtlMs,
    keyPrefix,
    toolJet: new KeyNames(namesKey, `${url}\n${target.apiToken}`, 1).toolJetHash(), // a limit belongs to the token, too
    instance,
    patExpiry,
    isSingleTenant,
  })
  // one mint, its check of access, and five waits for Redis: limit, queue and limit again before it, queue and store after it
  const timeoutMs = checkAccess ? 2 * target.timeoutMs : target.timeoutMs
  const lockTtlMs = timeoutMs + 5 * redisTimeoutMs
  return new ToolJet({ client, queue, names, log, accessCheck: checkAccess ? new AccessCheck({ client, log }) : undefined }, { url, embedOrigins, timeoutMs, lockTtlMs, instance })
}

/** One ToolJet for all requests. */
class SingleTenantRegistry implements ToolJetRegistry {
  readonly #tooljet: ToolJet
  readonly #scripts: ScriptClient

  constructor (tooljet: ToolJet, scripts: ScriptClient) {
    this.#tooljet = tooljet
    this.#scripts = scripts
  }

  get origins (): readonly string[] {
    return this.#tooljet.embedOrigins
  }

  displayNameOf (): undefined {}

  forRequest (): ToolJet {
    return this.#tooljet
  }

  fromTarget (target: unknown): ToolJet {
    if (target === undefined) return this.#tooljet
    throw embedError('TOOLJET_EMBED_BAD_REQUEST', { detail: 'forget accepts a "tooljet" only where option "tooljet" is a function' })
  }

  async health (): Promise<TooljetsHealth> {
    const [standing] = await standingsOf(this.#scripts, [this.#tooljet.standingKeys])
    return { tooljet: this.#tooljet.health(standing!) }
  }

  close (): void {
    this.#tooljet.close()
  }
}

/** A ToolJet for each tenant; the 1000 used last are kept. */
class MultiTenantRegistry implements ToolJetRegistry {
  readonly origins = []
  readonly #targetOf: TooljetOfRequest
  readonly #make: (target: Target) => ToolJet
  readonly #scripts: ScriptClient
  readonly #known = new LRUCache<string, ToolJet>({ max: MAX_TOOLJETS, ttl: IDLE_TTL_MS, updateAgeOnGet: true, dispose: (tooljet) => tooljet.close() })
  readonly #loggedTargets = new LRUCache<string, true>({ max: MAX_TOOLJETS, ttl: LOGGED_AGAIN_MS })

  constructor (targetOf: TooljetOfRequest, make: (target: Target) => ToolJet, scripts: ScriptClient) {
    this.#targetOf = targetOf
    this.#make = make
    this.#scripts = scripts
  }

  displayNameOf (tooljet: ToolJet | undefined): string | undefined {
    return tooljet?.url
  }

  async forRequest (request: FastifyRequest): Promise<ToolJet> {
    const target: unknown = await this.#targetOf(request)
    if (target === undefined || target === null) throw embedError('TOOLJET_EMBED_TENANT_UNKNOWN')
    try {
      return this.#at(target)
    } catch (error) {
      this.#logInvalidTarget(request, target, error as Error)
      throw embedError('TOOLJET_EMBED_MISCONFIGURED', { detail: 'the "tooljet" of this request is invalid', cause: error })
    }
  }

  fromTarget (target: unknown): ToolJet {
    try {
      return this.#at(target)
    } catch (error) {
      throw embedError('TOOLJET_EMBED_BAD_REQUEST', { detail: 'forget expects the user\'s "tooljet", as the function of option "tooljet" gives it', cause: error })
    }
  }

  async health (): Promise<TooljetsHealth> {
    const known = [...this.#known.values()] // the last used ones come first
    const standings = await standingsOf(this.#scripts, known.map(({ standingKeys }) => standingKeys))
    const tooljets = known.map((tooljet, i) => ({ url: tooljet.url, ...tooljet.health(standings[i]!) }))
    const { url: _, ...worst } = tooljets.reduce((worst, one) => (isWorse(one, worst) ? one : worst), { url: '', state: 'unknown' })
    return { tooljet: worst, tooljets }
  }

  close (): void {
    for (const tooljet of this.#known.values()) tooljet.close()
  }

  /** @throws TOOLJET_EMBED_OPTIONS */
  #at (given: unknown): ToolJet {
    const target = parseTarget(given)
    const key = JSON.stringify([target.url, target.apiToken, target.timeoutMs, target.embedOrigins, target.mintLimit, target.checkAccess, target.headers, target.dispatcher && dispatcherName(target.dispatcher)])
    const known = this.#known.get(key)
    if (known !== undefined) return known
    const tooljet = this.#make(target)
    this.#known.set(key, tooljet)
    return tooljet
  }

  #logInvalidTarget (request: FastifyRequest, target: unknown, error: Error): void {
    const { url } = Object(target) as { url?: unknown }
    const host = typeof url === 'string' && URL.canParse(url) ? new URL(url).host : undefined
    const key = `${host} ${error.message}`
    if (this.#loggedTargets.has(key)) return
    this.#loggedTargets.set(key, true)
    request.log.error({ err: error, host }, 'tooljet-embed: invalid tooljet target')
  }
}

const dispatchers = new WeakMap<object, number>()
let dispatchersSeen = 0

/** A number for each dispatcher: the same dispatcher means the same ToolJet. */
function dispatcherName (dispatcher: object): number {
  let name = dispatchers.get(dispatcher)
  if (name === undefined) dispatchers.set(dispatcher, name = ++dispatchersSeen)
  return name
}

function isWorse (one: TooljetHealth, other: TooljetHealth): boolean {
  const more = SEVERITY[one.state] - SEVERITY[other.state]
  return more > 0 || (more === 0 && (one.pausedFor ?? 0) > (other.pausedFor ?? 0))
}

const SEVERITY: Record<TooljetHealth['state'], number> = { unknown: 0, ok: 1, paused: 2, failing: 3 }
