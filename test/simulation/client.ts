import type { Decisions } from './decisions.js'
import { ARRIVALS, TIMERS, type Process, type Scheduler } from './scheduler.js'
import type { Arg, Command, RedisServer, Reply } from './server.js'

/** How a client was made. */
export interface ClientKind {
  /** Commands wait while there is no connection, else they fail. */
  offlineQueue: boolean
  /** All that wait fail after so many vain tries to connect. */
  maxRetries: number
}

/** How likely it is that something goes wrong with a message; each 0 to 1. */
export interface Mishaps {
  /** It takes longer than usual: up to 40 ms. */
  slow: number
  /** It takes longer than anybody waits. */
  verySlow: number
  /** The connection is cut before it is executed. */
  cutBefore: number
  /** The connection is cut after it is executed and before its reply comes. */
  cutAfter: number
  /** After a cut, it takes long to connect again. */
  longAway: number
  /** The process crashes when it has been sent: before, or after it is executed. */
  crash: number
  /** The process stands still when it has been executed, before its reply comes. */
  stall: number
}

/** What became of what a process sent: the checker's excuses come from it. */
export interface Traffic {
  /** From sending to the reply's arrival, of what took longer than `slowMs` or failed; `to`: Infinity while there is no reply. */
  delays: { from: number, to: number }[]
  /** Cuts, until the connection was there again. */
  cuts: { from: number, to: number }[]
  /** Replies: when Redis executed the command, and when it came. */
  replies: { executedAt: number, at: number }[]
}

interface Pending extends Command {
  sentAt: number
  resolve: (value: unknown) => void
  reject: (error: Error) => void
}

interface Connection {
  isCut: boolean
  lastArrival: number
  lastReply: number
}

const LONG_MS = [1200, 2500, 6000, 20_000]

/**
 * A client as ioredis is one: in one connection all is in order; after a cut it connects again, sends all commands
 * again that have had no reply, and then what waited. It has the commands that the plugin uses.
 */
export class SimulatedClient {
  readonly traffic: Traffic = { delays: [], cuts: [], replies: [] }
  /** Nothing connects until then. */
  refusedUntil = 0
  /** Nothing arrives until then, in either direction. */
  heldUntil = 0
  readonly options = {}
  /** One of the messages' fates is a crash of the process. */
  onCrash: () => void = () => {}
  onStall: (ms: number) => void = () => {}
  readonly #process: Process
  readonly #scheduler: Scheduler
  readonly #server: RedisServer
  readonly #decisions: Decisions
  readonly #kind: ClientKind
  readonly #mishaps: Mishaps
  readonly #slowMs: number
  readonly #note: (what: string | (() => string)) => void
  readonly #nameOf: (command: Command) => string
  #connection: Connection | undefined
  #unanswered: Pending[] = []
  #waiting: Pending[] = []
  #messages = 0
  #cuts = 0

  constructor (parts: {
    process: Process,
    scheduler: Scheduler,
    server: RedisServer,
    decisions: Decisions,
    kind: ClientKind,
    mishaps: Mishaps
    slowMs: number,
    note: (what: string | (() => string)) => void,
    nameOf: (command: Command) => string
  }) {
    this.#process = parts.process
    this.#scheduler = parts.scheduler
    this.#server = parts.server
    this.#decisions = parts.decisions
    this.#kind = parts.kind
    this.#mishaps = parts.mishaps
    this.#slowMs = parts.slowMs
    this.#note = parts.note
    this.#nameOf = parts.nameOf
  }

  connect (): void {
    this.#tryToConnect(1, this.#scheduler.now)
  }

  call (command: string, ...args: Arg[]): Promise<unknown> {
    return this.#send(command.toUpperCase(), args, false)
  }

  callBuffer (command: string, ...args: Arg[]): Promise<unknown> {
    return this.#send(command.toUpperCase(), args, true)
  }

  eval (script: string, numKeys: number, ...args: Arg[]): Promise<unknown> {
    return this.#send('EVAL', [script, numKeys, ...args], false)
  }

  evalBuffer (script: string, numKeys: number, ...args: Arg[]): Promise<unknown> {
    return this.#send('EVAL', [script, numKeys, ...args], true)
  }

  evalsha (digest: string, numKeys: number, ...args: Arg[]): Promise<unknown> {
    return this.#send('EVALSHA', [digest, numKeys, ...args], false)
  }

  evalshaBuffer (digest: string, numKeys: number, ...args: Arg[]): Promise<unknown> {
    return this.#send('EVALSHA', [digest, numKeys, ...args], true)
  }

  ping (): Promise<unknown> {
    return this.#send('PING', [], false)
  }

  async pttl (key: string): Promise<number> {
    return Number(await this.#send('PTTL', [key], false))
  }

  time (): Promise<string[]> {
    return this.#send('TIME', [], false) as Promise<string[]>
  }

  async xrange (key: string, ...args: (string | number)[]): Promise<[id: string, fields: string[]][]> {
    return this.#send('XRANGE', [key, ...args], false) as Promise<[string, string[]][]>
  }

  async xrevrange (key: string, ...args: (string | number)[]): Promise<[id: string, fields: string[]][]> {
    return this.#send('XREVRANGE', [key, ...args], false) as Promise<[string, string[]][]>
  }

  /** The network or the server ends the connection. What has not arrived does not, but for what the server has in its buffers already. */
  cut (): void {
    const connection = this.#connection
    if (connection === undefined || connection.isCut) return
    connection.isCut = true
    const now = this.#scheduler.now
    const again = now + this.#decisions.decide(`${this.#process.name} back ${++this.#cuts}`, 50, (random) => (
      random.chance(this.#mishaps.longAway) ? random.pick(LONG_MS) : 50
    ))
    const traffic = { from: now, to: Infinity }
    this.traffic.cuts.push(traffic)
    this.#note(`connection cut, ${this.#unanswered.length} without reply, tries again in ${again - now} ms`)
    // a process that stands still sees it later, and what it sends until then is lost
    this.#scheduler.add(now, ARRIVALS, this.#process, () => {
      this.#connection = undefined
      this.#tryToConnect(1, again, traffic)
    })
  }

  #tryToConnect (tries: number, at: number, traffic?: { to: number }): void {
    this.#scheduler.add(at, TIMERS, this.#process, () => {
      const { now } = this.#scheduler
      if (now < this.refusedUntil) {
        if (tries % (this.#kind.maxRetries + 1) === 0) this.#failAll()
        this.#tryToConnect(tries + 1, now + Math.min(tries * 50, 1000), traffic)
        return
      }
      if (traffic !== undefined) traffic.to = now
      this.#connection = { isCut: false, lastArrival: now, lastReply: now }
      const again = this.#unanswered
      const waiting = this.#waiting
      this.#unanswered = []
      this.#waiting = []
      for (const command of [...again, ...waiting]) this.#transmit(command)
    })
  }

  #failAll (): void {
    for (const command of [...this.#unanswered.splice(0), ...this.#waiting.splice(0)]) {
      this.traffic.delays.push({ from: command.sentAt, to: this.#scheduler.now })
      command.reject(new Error('Reached the max retries per request limit'))
    }
  }

  #send (name: string, args: Arg[], buffers: boolean): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const command: Pending = { name, args, buffers, sentAt: this.#scheduler.now, resolve, reject }
      if (this.#connection !== undefined) this.#transmit(command)
      else if (this.#kind.offlineQueue) this.#waiting.push(command)
      else {
        this.traffic.delays.push({ from: this.#scheduler.now, to: this.#scheduler.now })
        reject(new Error("Stream isn't writeable and enableOfflineQueue options is false"))
      }
    })
  }

  #transmit (command: Pending): void {
    const connection = this.#connection!
    this.#unanswered.push(command)
    const name = `${this.#process.name} ${++this.#messages}`
    const { now } = this.#scheduler
    if (connection.isCut) return // the process does not know yet
    connection.lastArrival = Math.max(connection.lastArrival, this.heldUntil, now + this.#latency(`${name} to`))
    const fate = this.#decisions.decide(`${name} fate`, '', (random) => {
      const { cutBefore, cutAfter, crash, stall } = this.#mishaps
      let share = random.next()
      for (const [fate, likely] of [['cut before', cutBefore], ['cut after', cutAfter], ['crash before', crash / 2], ['crash after', crash / 2]] as const) {
        if (share < likely) return fate
        share -= likely
      }
      return share < stall ? `stall ${random.pick([900, 3000, 16_000, 40_000])}` : ''
    })
    // a connection that is cut while Redis stands still: what it has in its buffers is executed all the same
    const isGhost = this.#decisions.decide(`${name} ghost`, 0, (random) => (random.chance(0.15) ? 1 : 0))
    this.#arrive({ name, command, connection, fate, isGhost: isGhost === 1 }, connection.lastArrival)
  }

  #arrive (message: { name: string, command: Pending, connection: Connection, fate: string, isGhost: boolean }, at: number): void {
    this.#scheduler.add(at, ARRIVALS, undefined, () => {
      const { now } = this.#scheduler
      if (now < this.#server.frozenUntil) return this.#arrive(message, this.#server.frozenUntil)
      return this.#execute(message)
    })
  }

  async #execute ({ name, command, connection, fate, isGhost }: { name: string, command: Pending, connection: Connection, fate: string, isGhost: boolean }): Promise<void> {
    if (connection.isCut && !isGhost) return
    if (!connection.isCut && fate === 'cut before') {
      this.#note(`${this.#nameOf(command)} [${name}] does not arrive`)
      return this.cut()
    }
    if (fate === 'crash before') return this.#crash(name, command, 'before')

    const executedAt = this.#scheduler.now
    const reply = await this.#server.execute(command)
    const wasCut = connection.isCut
    this.#note(() => `${this.#nameOf(command)} [${name}] ${show(reply)}${wasCut ? ', from a connection that is cut' : ''}`)
    if (fate === 'crash after') return this.#crash(name, command, 'after')
    if (connection.isCut) return
    if (fate === 'cut after') {
      this.#note(`the reply to ${this.#nameOf(command)} [${name}] is lost`)
      return this.cut()
    }
    if (fate.startsWith('stall ')) {
      this.onStall(Number(fate.slice(6)))
      this.#note(`stands still for ${fate.slice(6)} ms`)
    }
    connection.lastReply = Math.max(connection.lastReply, this.heldUntil, executedAt + this.#latency(`${name} from`))
    // the network has brought it then, whenever the process looks
    const cameAt = connection.lastReply
    let hasCome = false
    this.#scheduler.add(cameAt, ARRIVALS, undefined, () => {
      if (connection.isCut) return
      hasCome = true
      // a script that Redis does not know is sent twice within one wait
      const isHalf = command.name === 'EVAL' || 'error' in reply
      if (cameAt - command.sentAt > this.#slowMs / (isHalf ? 2 : 1)) this.traffic.delays.push({ from: command.sentAt, to: cameAt })
    })
    this.#scheduler.add(cameAt, ARRIVALS, this.#process, () => {
      if (!hasCome || this.#unanswered[0] !== command) return
      this.#unanswered.shift()
      this.traffic.replies.push({ executedAt, at: this.#scheduler.now })
      if ('error' in reply) command.reject(reply.error)
      else command.resolve(reply.value)
    })
  }

  /** What had no reply until the end. */
  close (): void {
    for (const { sentAt } of [...this.#unanswered, ...this.#waiting]) this.traffic.delays.push({ from: sentAt, to: Infinity })
  }

  /** The process has crashed: what it sent may arrive all the same. */
  die (): void {
    const connection = this.#connection
    if (connection === undefined) return
    const arrives = this.#decisions.decide(`${this.#process.name} legacy`, 0, (random) => (random.chance(0.5) ? 1 : 0)) === 1
    if (!arrives) connection.isCut = true
  }

  #crash (name: string, command: Command, when: string): void {
    this.#note(`crashes ${when} ${this.#nameOf(command)} [${name}] is executed`)
    this.onCrash()
  }

  #latency (name: string): number {
    return this.#decisions.decide(name, 1, (random) => {
      if (random.chance(this.#mishaps.verySlow)) return random.pick(LONG_MS)
      if (random.chance(this.#mishaps.slow)) return random.between(2, 40)
      return random.pick([0, 1, 1, 1, 2])
    })
  }
}

/** Start and end of a URL say enough. */
function withoutCiphertext (text: string): string {
  if (/^\d{26}/.test(text)) return `${text.slice(0, 26)}…`
  return /[^ -~]/.test(text) ? '…' : text
}

function show (reply: Reply): string {
  if ('error' in reply) return `fails: ${reply.error.message}`
  const text = JSON.stringify(reply.value, (_, value: unknown) => {
    if (typeof value === 'object' && value !== null && 'type' in value && value.type === 'Buffer') return withoutCiphertext(Buffer.from((value as unknown as { data: number[] }).data).toString('latin1'))
    return value
  }) ?? ''
  return `→ ${text.length > 100 ? `${text.slice(0, 100)}…` : text}`
}
