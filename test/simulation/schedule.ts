import type { AuditFields } from '../../plugin/audit/event.js'
import type { RedisLike } from '../../plugin/redis/redis-like.js'
import { isEmbedError } from '../../plugin/errors.js'
import { SimulatedClient } from './client.js'
import { Decisions, randomFor } from './decisions.js'
import { APPS, type ForgetRecord, type History, type ProcessRecord, type RequestRecord } from './history.js'
import { createInstance, scriptName, type Instance } from './instance.js'
import { nameOfInstance, showItem, type Item, type Plan } from './plan.js'
import { ARRIVALS, Process, Scheduler } from './scheduler.js'
import { RedisServer, type Command, type RealRedis } from './server.js'
import { SimulatedTooljet } from './tooljet.js'

/** Longer than anything is allowed to take after the last item. */
const LAST_MS = 200_000

interface Life {
  process: Process
  record: ProcessRecord
  client: SimulatedClient
  instance: Instance
  isReady: boolean
  waiting: (() => void)[]
  /** Requests and forgets without an answer. */
  open: number
}

export interface Outcome {
  history: History
  /** The choices that were not as usual. */
  taken: Record<string, string | number>
  /** What happened, in lines to read; empty unless asked for. */
  lines: string[]
}

let schedules = 0

/** Runs one schedule from its begin to its end. */
export async function runSchedule (plan: Plan, real: RealRedis, options: { replay?: Record<string, string | number>, tells?: boolean } = {}): Promise<Outcome> {
  return new Schedule(plan, real, options).run()
}

class Schedule {
  readonly #plan: Plan
  readonly #scheduler = new Scheduler()
  readonly #decisions: Decisions
  readonly #server: RedisServer
  readonly #tooljet: SimulatedTooljet
  readonly #prefix = `sim${process.pid}x${++schedules}:`
  readonly #lives: (Life | undefined)[] = []
  readonly #lines: string[] = []
  readonly #tells: boolean
  readonly #history: History
  readonly #snapshots = new Map<Item, Buffer[]>()
  #left: number

  constructor (plan: Plan, real: RealRedis, { replay, tells = false }: { replay?: Record<string, string | number>, tells?: boolean }) {
    this.#plan = plan
    this.#tells = tells
    this.#decisions = new Decisions(plan.seed, replay)
    this.#server = new RedisServer(real, this.#prefix, this.#scheduler)
    this.#tooljet = new SimulatedTooljet(this.#scheduler, this.#decisions, { faults: plan.tooljet, hasCapitals: plan.settings.hasCapitals === true }, (who, what) => this.#note(who, what))
    this.#left = plan.items.length
    this.#history = { settings: plan.settings, requests: [], forgets: [], mints: this.#tooljet.mints, processes: [], losses: [], freezes: [], stream: [], end: 0, uncaught: [] }
  }

  async run (): Promise<Outcome> {
    const { items } = this.#plan
    for (const item of items) {
      if (item.what === 'failover') {
        this.#scheduler.add(item.at - item.loses, ARRIVALS, undefined, async () => { this.#snapshots.set(item, await this.#server.snapshot()) })
      }
      this.#scheduler.add(item.at, ARRIVALS, undefined, async () => {
        this.#note('', () => showItem(item))
        await this.#happens(item)
        this.#left--
        await new Promise<void>((resolve) => { setImmediate(resolve) })
      })
    }
    await this.#scheduler.run(() => this.#left === 0 && this.#isQuiet(), (items.at(-1)?.at ?? 0) + LAST_MS)
    this.#history.end = this.#scheduler.now
    for (const life of this.#lives) life?.instance.stop()
    for (const life of this.#everyLife) {
      life.client.close()
      life.process.alive = false
    }
    this.#history.stream = await this.#server.streamAt(`${this.#prefix}audit`)
    await this.#server.restore([])
    return { history: this.#history, taken: this.#decisions.taken, lines: this.#lines }
  }

  readonly #everyLife: Life[] = []

  /** All that was asked has been answered, but for what has died. */
  #isQuiet (): boolean {
    return this.#everyLife.every(({ open, instance, process }) => (open === 0 && instance.backlog === 0) || !process.alive)
  }

  async #happens (item: Item): Promise<void> {
    const life = 'instance' in item ? this.#lives[item.instance] : undefined
    const { now } = this.#scheduler
    switch (item.what) {
      case 'start':
        this.#start(item.instance)
        break
      case 'crash':
        if (life !== undefined) this.#crash(life)
        break
      case 'request':
        if (life?.process.alive) this.#ask(life, () => this.#request(life, item.user, item.app, item.replaces))
        break
      case 'forget':
        if (life?.process.alive) this.#ask(life, () => this.#forget(life, item.user, item.app))
        break
      case 'stall':
        if (life !== undefined) this.#stall(life, item.ms)
        break
      case 'date':
        if (life !== undefined) life.process.clockOffset += item.by
        break
      case 'cut':
        life?.client.cut()
        break
      case 'hold':
        if (life !== undefined) life.client.heldUntil = Math.max(life.client.heldUntil, now + item.ms)
        break
      case 'refuse':
        if (life === undefined) break
        life.client.refusedUntil = Math.max(life.client.refusedUntil, now + item.ms)
        life.client.cut()
        break
      case 'freeze':
        this.#server.frozenUntil = Math.max(this.#server.frozenUntil, now + item.ms)
        this.#history.freezes.push({ from: now, to: now + item.ms })
        break
      case 'wipe':
        return this.#lose([], now)
      case 'failover':
        return this.#lose(this.#snapshots.get(item) ?? [], Math.max(0, item.at - item.loses))
      case 'revoke':
        this.#tooljet.revoked.add(`${item.user} ${APPS[item.app]!.app}`)
        break
      case 'grant':
        this.#tooljet.revoked.delete(`${item.user} ${APPS[item.app]!.app}`)
        break
    }
  }

  async #lose (snapshot: Buffer[], to: number): Promise<void> {
    await this.#server.restore(snapshot)
    this.#history.losses.push({ at: this.#scheduler.now, to: snapshot.length === 0 ? 0 : to })
    for (const life of this.#lives) life?.client.cut()
  }

  #start (slot: number): void {
    const plan = this.#plan
    const scheduler = this.#scheduler
    if (this.#lives[slot]?.process.alive) return
    const lives = this.#everyLife.filter(({ record }) => record.slot === slot).length
    const process = new Process(nameOfInstance(slot) + '\''.repeat(lives))
    process.clockOffset = plan.dates[slot]!
    const client = new SimulatedClient({
      process,
      scheduler,
      server: this.#server,
      decisions: this.#decisions,
      kind: plan.clients[slot]!,
      mishaps: plan.mishaps,
      slowMs: plan.settings.redisTimeoutMs,
      note: (what) => this.#note(process.name, what),
      nameOf: (command) => this.#nameOf(command),
    })
    const record: ProcessRecord = { name: process.name, slot, startedAt: scheduler.now, stalls: [], traffic: client.traffic, events: [] }
    const instance = createInstance({
      redis: client as unknown as RedisLike,
      timers: scheduler.timersOf(process, randomFor(plan.seed, process.name)),
      settings: plan.settings,
      keyPrefix: this.#prefix,
      callTooljet: (body, signal) => this.#tooljet.call(process, body, signal, (user, name) => Math.min(scheduler.now, ...this.#history.requests
        .filter((request) => request.process === process.name && request.user === user && request.name === name && request.end === undefined).map(({ begin }) => begin))),
      onEvent: (fields, isLost) => this.#recordEvent(record, fields, isLost),
    })
    const life: Life = { process, record, client, instance, isReady: false, waiting: [], open: 0 }
    this.#lives[slot] = life
    this.#everyLife.push(life)
    this.#history.processes.push(record)
    client.onCrash = () => {
      this.#crash(life)
      const after = this.#decisions.decide(`${process.name} again`, 1000, (random) => random.pick([1, 100, 1000, 20_000]))
      scheduler.add(scheduler.now + after, ARRIVALS, undefined, () => this.#start(slot))
    }
    client.onStall = (ms) => this.#stall(life, ms)
    client.connect()
    this.#watch(process, instance.start().then(() => {
      this.#note(process.name, 'is ready')
      life.isReady = true
      for (const ask of life.waiting.splice(0)) ask()
    }))
  }

  #crash (life: Life): void {
    if (!life.process.alive) return
    life.process.alive = false
    life.record.crashedAt = this.#scheduler.now
    life.client.die()
  }

  #stall (life: Life, ms: number): void {
    const { now } = this.#scheduler
    life.process.stalledUntil = Math.max(life.process.stalledUntil, now + ms)
    life.record.stalls.push({ from: now, to: now + ms })
  }

  /** What comes before it is ready waits, as a server that does not listen yet makes it wait. */
  #ask (life: Life, ask: () => void): void {
    // a process that stands still takes nothing
    this.#scheduler.add(this.#scheduler.now, ARRIVALS, life.process, () => {
      if (life.isReady) ask()
      else life.waiting.push(ask)
    })
  }

  #request (life: Life, user: string, app: number, replaces: true | undefined): void {
    const { requests } = this.#history
    const naming = APPS[app]!
    const before = replaces && requests.findLast((request) => request.user === user && request.app === naming.app && request.answer !== undefined)?.answer?.urlId
    const record: RequestRecord = { id: requests.length + 1, process: life.process.name, user, ...naming, replaces: before, begin: this.#scheduler.now }
    requests.push(record)
    life.open++
    this.#watch(life.process, life.instance.request(String(record.id), user, naming.name, before).then((answer) => {
      record.answer = answer
      record.end = this.#scheduler.now
      life.open--
      this.#note(life.process.name, `request ${record.id}: ${answer.source} ${answer.redirectUrl.replace(/.*token=(\w+).*/, '$1')}, expires in ${answer.expiresIn}`)
    }, (error: unknown) => {
      record.code = isEmbedError(error) ? error.code : `not a coded error: ${String(error)}`
      record.end = this.#scheduler.now
      life.open--
      this.#note(life.process.name, `request ${record.id}: ${record.code}`)
    }))
    this.#note(life.process.name, `request ${record.id} of ${user} for ${naming.name}${before === undefined ? '' : ', replaces'} begins`)
  }

  #forget (life: Life, user: string, app: number | undefined): void {
    const { forgets } = this.#history
    const naming = app === undefined ? undefined : APPS[app]!
    const record: ForgetRecord = { id: forgets.length + 1, process: life.process.name, user, app: naming, begin: this.#scheduler.now }
    forgets.push(record)
    life.open++
    this.#watch(life.process, life.instance.forget(user, naming?.name).then((dropped) => {
      record.end = this.#scheduler.now
      life.open--
      this.#note(life.process.name, `forget ${record.id}: dropped ${dropped}`)
    }, (error: unknown) => {
      record.code = isEmbedError(error) ? error.code : `not a coded error: ${String(error)}`
      record.end = this.#scheduler.now
      life.open--
      this.#note(life.process.name, `forget ${record.id}: ${record.code}`)
    }))
    this.#note(life.process.name, `forget ${record.id} of ${user} ${naming?.name ?? 'everything'} begins`)
  }

  #recordEvent ({ name, events }: ProcessRecord, fields: AuditFields, isLost: boolean): void {
    if (isLost) events.find((event) => event.fields['mac'] === fields['mac'])!.isLost = true
    else events.push({ at: this.#scheduler.now, fields })
    this.#note(name, `event ${fields['seq']} ${fields['event']}${isLost ? ' does not get into the stream' : ''}`)
  }

  #watch (process: Process, promise: Promise<unknown>): void {
    promise.catch((error: unknown) => { this.#history.uncaught.push(`${process.name}: ${(error as Error).stack}`) })
  }

  #note (who: string, what: string | (() => string)): void {
    if (this.#tells) this.#lines.push(`${(this.#scheduler.now / 1000).toFixed(3).padStart(9)} ${who.padEnd(8)} ${typeof what === 'string' ? what : what()}`)
  }

  #nameOf ({ name, args }: Command): string {
    if (!this.#tells) return ''
    if (name !== 'EVAL' && name !== 'EVALSHA') return name
    const text = name === 'EVAL' ? String(args[0]) : this.#server.textOf(String(args[0]))
    return text === undefined ? 'unknown script' : scriptName(text)
  }
}
