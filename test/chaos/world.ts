import { setTimeout as sleep } from 'node:timers/promises'
import type { Fault, Faults } from '../../example/tooljet/server.js'
import { ToolJetStandIn } from '../../example/tooljet/server.js'
import type { TooljetEmbedOptions } from '../../plugin/index.js'
import { API_TOKEN, JWT_SECRET } from '../support/portal.js'
import { ReplyProxy, type Command, type Fate } from '../support/reply-proxy.js'
import { TcpProxy, type Weather } from '../support/tcp-proxy.js'
import { now } from './clock.js'
import { LivingInstance } from './life.js'
import { LOAD_SEED } from './load.js'
import type { PlannedFault } from './plan.js'
import type { Random } from './random.js'
import type { Disturbance, Records } from './records.js'
import { ChaosRedis } from './redis.js'

const KEY_PREFIX = 'chaos:'
export const MAX_MINT_MS = 80
/** So that a mint lasts long enough for another one to overlap with it. */
const MINT_MS: [least: number, most: number] = [10, MAX_MINT_MS]

const MIN_CONNECTION_MS = 150

/** Redis, ToolJet and the instances of a run, with a proxy on every way between them, and what can go wrong with each. */
export class World {
  readonly #redisProxies: ReplyProxy[] = []
  readonly #slots: (LivingInstance | undefined)[] = []
  readonly #storms: { fault: PlannedFault, cuts: number }[] = []
  /** One fault of a kind at a time: a stalled Redis is not restarted. */
  readonly #queues = new Map<string, Promise<void>>()
  #isClosed = false

  private constructor (
    readonly redis: ChaosRedis,
    readonly toolJet: ToolJetStandIn,
    private readonly toolJetProxy: TcpProxy,
    private readonly records: Records,
    private readonly random: Random,
    private readonly options: Partial<TooljetEmbedOptions>
  ) {}

  static async start (slots: number, records: Records, random: Random, options: Partial<TooljetEmbedOptions>): Promise<World> {
    const redis = await ChaosRedis.start(`${KEY_PREFIX}audit`)
    const toolJet = await new ToolJetStandIn({ apiToken: API_TOKEN, seed: LOAD_SEED }).listen()
    const world = new World(redis, toolJet, await TcpProxy.to(Number(new URL(toolJet.url).port)), records, random, options)
    toolJet.faults = world.#faults
    try {
      for (let slot = 0; slot < slots; slot++) world.#redisProxies.push(await ReplyProxy.to(redis.port))
      await Promise.all(world.#redisProxies.map((_, slot) => world.#startInstance(slot)))
    } catch (error) {
      await world.kill()
      throw error
    }
    return world
  }

  get instances (): LivingInstance[] {
    return this.#slots.filter((instance) => instance !== undefined)
  }

  /** The one that no fault ends. */
  get oldest (): LivingInstance {
    return this.#slots[0]!
  }

  /** Replies of Redis are being lost just now. */
  get isLosing (): boolean {
    return this.records.disturbances.some(({ of, to }) => of === 'redis-replies' && to === Infinity)
  }

  /** How many were lost on purpose, besides those of killed clients. */
  get lostReplies (): number {
    return this.#redisProxies.reduce((sum, { lost }) => sum + lost, 0)
  }

  /** Does what the plan says, and notes when. */
  async strike (fault: PlannedFault): Promise<void> {
    const { kind, forMs, slot, share = 1, amount = 0 } = fault
    switch (kind) {
      case 'instance-stall':
        return this.#inTurn(`instance ${slot}`, 'instance', async () => {
          const stalled = this.#slots[slot!]?.process
          stalled?.kill('SIGSTOP')
          await sleep(forMs)
          stalled?.kill('SIGCONT')
        })
      case 'instance-kill':
      case 'instance-stop':
        return this.#inTurn(`instance ${slot}`, 'instance', () => this.#replace(slot!, kind === 'instance-kill' ? 'kill' : 'stop', forMs))
      case 'redis-stall':
        return this.#inTurn('redis', 'redis', async () => {
          this.redis.stall()
          await sleep(forMs)
          this.redis.goOn()
        })
      case 'redis-restart-empty':
        return this.#inTurn('redis', 'redis', () => this.redis.restartEmpty(forMs))
      case 'redis-restart-kept':
        return this.#inTurn('redis', 'redis', () => this.redis.restartKept(forMs))
      case 'redis-cut':
        return this.#inTurn('way to redis', 'redis', async () => { for (const proxy of this.#proxiesOf(slot)) proxy.cut() }, slot)
      case 'redis-black-hole':
        return this.#weather(slot, { blackHole: true }, forMs)
      case 'redis-refuse':
        return this.#weather(slot, { refuse: true }, forMs)
      case 'redis-slow':
        return this.#weather(slot, { delayMs: amount }, forMs)
      case 'redis-narrow':
        return this.#weather(slot, { bytesPerSecond: amount }, forMs)
      case 'redis-lose-replies':
        return this.#inTurn('way to redis', 'redis-replies', async () => {
          for (const proxy of this.#proxiesOf(slot)) proxy.fate = this.#losing(share)
          await sleep(forMs)
          for (const proxy of this.#proxiesOf(slot)) proxy.fate = undefined
        }, slot)
      case 'redis-kill-clients':
        return this.#inTurn('redis', 'redis-replies', () => this.redis.killClients(forMs))
      case 'tooljet-link-cut':
        return this.#disturbed('tooljet-link', async () => this.toolJetProxy.cut())
      case 'tooljet-revoke':
        return this.#revoke(amount)
      default:
        return this.#disturbed(kind === 'tooljet-cut' ? 'tooljet-link' : 'tooljet', async () => {
          const storm = { fault, cuts: 0 }
          this.#storms.push(storm)
          await sleep(forMs)
          this.#storms.splice(this.#storms.indexOf(storm), 1)
        })
    }
  }

  /** Ends all instances well, reads the stream to its end, and stops the rest. */
  async end (): Promise<void> {
    await Promise.all([...this.#queues.values()])
    this.#isClosed = true
    await Promise.all(this.instances.map((instance) => instance.end('stop', 2 * this.records.limits.stopMs)))
    await this.redis.catchUp()
    await this.kill()
  }

  async kill (): Promise<void> {
    this.#isClosed = true
    await Promise.all([...this.#queues.values()]) // what is being started now is to be there to be ended
    await Promise.all(this.instances.map((instance) => instance.end('kill', 0)))
    await Promise.all([...this.#redisProxies, this.toolJetProxy].map((proxy) => proxy.close()))
    await this.toolJet.close()
    await this.redis.stop()
  }

  async #startInstance (slot: number): Promise<void> {
    const { patExpiry, minRemaining, timeoutMs, redisTimeoutMs } = this.records.limits
    const { tooljet, ...others } = this.options
    const options = {
      // the proxy has another port than the URLs that ToolJet gives; a limit learnt from the run's own 429s would hold up all in calm times
      tooljet: { url: `http://127.0.0.1:${this.toolJetProxy.port}`, apiToken: API_TOKEN, timeoutMs, embedOrigins: [this.toolJet.url], mintLimit: { max: 10_000, timeWindow: 1000 }, ...tooljet },
      redis: `redis://127.0.0.1:${this.#redisProxies[slot]!.port}`,
      keyPrefix: KEY_PREFIX,
      redisTimeoutMs,
      patExpiry,
      minRemaining,
      rateLimit: false,
      ...others,
    }
    const isSecret = (line: string): boolean => line.includes(API_TOKEN) || /pat_[0-9a-f]{8}|eyJ[\w-]{8,}\./.test(line)
    const instance = await LivingInstance.start(slot, { secret: JWT_SECRET, options }, this.records, isSecret)
    this.#slots[slot] = instance
    instance.process.once('exit', () => { if (this.#slots[slot] === instance) this.#slots[slot] = undefined })
    if (this.#isClosed) await instance.end('kill', 0)
  }

  async #replace (slot: number, by: 'kill' | 'stop', downMs: number): Promise<void> {
    await this.#slots[slot]?.end(by, 2 * this.records.limits.stopMs)
    await sleep(downMs)
    if (!this.#isClosed) await this.#startInstance(slot)
  }

  #weather (slot: number | undefined, weather: Weather, forMs: number): Promise<void> {
    return this.#inTurn('way to redis', 'redis', async () => {
      for (const proxy of this.#proxiesOf(slot)) proxy.set(weather)
      await sleep(forMs)
      for (const proxy of this.#proxiesOf(slot)) proxy.set({})
    }, slot)
  }

  /** A share of the scripts' replies on one way, but not so many that no connection lives long enough to be of use. */
  #losing (share: number): (command: Command) => Fate {
    let nextAt = 0
    return ({ script }) => {
      if (script === undefined || performance.now() < nextAt || !this.random.chance(share)) return undefined
      nextAt = performance.now() + MIN_CONNECTION_MS
      return 'lose'
    }
  }

  #proxiesOf (slot: number | undefined): ReplyProxy[] {
    return slot === undefined ? this.#redisProxies : [this.#redisProxies[slot]!]
  }

  /** As an administrator ends tokens at ToolJet: the plugin is not told. */
  async #revoke (count: number): Promise<void> {
    const alive = this.toolJet.tokens.all.filter(({ token }) => this.toolJet.tokens.isAlive(token))
    for (const { token } of this.random.shuffled(alive).slice(0, count)) this.toolJet.tokens.revoke(token)
  }

  /** The stand-in's behaviour to each call, by the storms that blow just now. */
  readonly #faults: Faults = () => {
    const delayMs = this.random.between(...MINT_MS)
    const storm = this.#storms.find(({ fault }) => this.random.chance(fault.share ?? 1))
    return storm === undefined ? { delayMs } : this.#faultOf(storm, delayMs)
  }

  #faultOf (storm: { fault: PlannedFault, cuts: number }, delayMs: number): Fault {
    const { kind, amount = 1 } = storm.fault
    switch (kind) {
      case 'tooljet-500':
        return { delayMs, reply: { status: 500, body: { statusCode: 500, message: 'Internal server error' } } }
      case 'tooljet-502':
        return { delayMs, reply: { status: 502, body: '<html>Bad Gateway</html>', headers: { 'content-type': 'text/html' } } }
      case 'tooljet-503':
      case 'tooljet-429':
        this.records.pauses.push({ at: now(), seconds: amount })
        return { reply: { status: kind === 'tooljet-429' ? 429 : 503, headers: { 'retry-after': String(amount) } } }
      case 'tooljet-hang':
        return { hang: true }
      case 'tooljet-cut':
        return { delayMs, cut: storm.cuts++ % 2 === 0 ? 'before' : 'middle' }
      case 'tooljet-slow':
        return { delayMs: amount }
      default:
        return { delayMs, reply: { status: 200, body: '<html>maintenance</html>', headers: { 'content-type': 'text/html' } } }
    }
  }

  #inTurn (queue: string, of: Disturbance['of'], work: () => Promise<void>, slot?: number): Promise<void> {
    const done = (this.#queues.get(queue) ?? Promise.resolve()).then(() => this.#disturbed(of, work, slot))
    this.#queues.set(queue, done.catch(() => { /* whoever asked for it is told */ }))
    return done
  }

  async #disturbed (of: Disturbance['of'], work: () => Promise<void>, slot?: number): Promise<void> {
    const disturbance = { of, from: now(), to: Infinity, ...(slot !== undefined && { slot }) }
    this.records.disturbances.push(disturbance)
    await work()
    disturbance.to = now()
  }
}
