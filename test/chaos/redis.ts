import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { startServer, type RedisServer } from '../../example/redis.js'
import { freePorts } from '../support/child.js'
import type { StreamEntry } from './records.js'

const PAGE = 1000
const READ_EVERY_MS = 50
const CAUGHT_UP_MS = 10_000
const KILL_EVERY_MS = 150

/** The entries of a stream from one empty start of Redis to the next; as text, which takes a fraction of the memory. */
class Epoch implements Iterable<StreamEntry> {
  readonly #entries: string[] = []
  last = '0-0'

  get size (): number {
    return this.#entries.length
  }

  add (id: string, flat: string[]): void {
    this.#entries.push(JSON.stringify([id, ...flat]))
    this.last = id
  }

  * [Symbol.iterator] (): Generator<StreamEntry> {
    for (const text of this.#entries) {
      const [id, ...flat] = JSON.parse(text) as [string, ...string[]]
      const fields: Record<string, string> = {}
      for (let i = 0; i < flat.length; i += 2) fields[flat[i]!] = flat[i + 1]!
      yield { id, fields }
    }
  }
}

/**
 * A Redis that is stalled, killed and started again, with or without its data, on one port; and a reader that keeps all that its
 * audit stream ever held. Each command is in the append-only file before its answer leaves, so a kill -9 takes nothing that was answered.
 */
export class ChaosRedis {
  readonly epochs: Epoch[] = [new Epoch()]
  #server!: RedisServer
  #folder = newFolder()
  #client: Redis | undefined
  #reading = Promise.resolve()
  #isClosed = false

  private constructor (readonly port: number, readonly spare: number, readonly stream: string) {}

  static async start (stream: string): Promise<ChaosRedis> {
    // below the ports that the system gives away: one that is down for a moment must not be taken meanwhile
    const port = await freePorts(2)
    const redis = new ChaosRedis(port, port + 1, stream)
    await redis.#startOn(port)
    redis.#startReading()
    return redis
  }

  stall (): void {
    this.#server.process.kill('SIGSTOP')
  }

  goOn (): void {
    this.#server.process.kill('SIGCONT')
  }

  /** Ends all connections again and again, whatever is on its way in them; the reader's, too. */
  async killClients (forMs: number): Promise<void> {
    const client = connect(this.port)
    for (const end = performance.now() + forMs; performance.now() < end; await sleep(KILL_EVERY_MS)) {
      await client.call('CLIENT', 'KILL', 'TYPE', 'normal')
    }
    client.disconnect()
    // a client that is stopped between two tries to connect never settles what it was asked
    while (this.#client !== undefined && this.#client.status !== 'ready') await sleep(10)
  }

  async restartKept (downMs: number): Promise<void> {
    await this.#stopReading()
    await this.#server.stop()
    await sleep(downMs)
    await this.#startOn(this.port)
    this.#startReading()
  }

  /** Reads first, where nobody can write any more, what it had and is about to forget. */
  async restartEmpty (downMs: number): Promise<void> {
    await this.#stopReading()
    await this.#server.stop()
    await this.#startOn(this.spare)
    const client = connect(this.spare)
    await this.#read(client)
    client.disconnect()
    await this.#server.stop()
    rmSync(this.#folder, { recursive: true, force: true })
    this.#folder = newFolder()
    await sleep(downMs)
    this.epochs.push(new Epoch())
    await this.#startOn(this.port)
    this.#startReading()
  }

  /** Reads to the end. */
  async catchUp (): Promise<void> {
    await this.#stopReading()
    const client = connect(this.port)
    const timer = setTimeout(() => client.disconnect(), CAUGHT_UP_MS)
    await this.#read(client)
    clearTimeout(timer)
    client.disconnect()
  }

  async stop (): Promise<void> {
    this.#isClosed = true
    await this.#stopReading()
    await this.#server.stop()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  async #startOn (port: number): Promise<void> {
    this.#server = await startServer({
      port,
      args: ['--dir', this.#folder, '--appendonly', 'yes', '--appendfsync', 'no', '--auto-aof-rewrite-percentage', '0'],
      detached: true,
    })
    if (this.#server.port !== port) throw new Error(`port ${port} is taken`)
  }

  #startReading (): void {
    if (this.#isClosed) return
    const client = this.#client = connect(this.port)
    this.#reading = (async () => {
      while (this.#client === client) {
        await this.#read(client).catch(() => { /* it is away, or this reader was stopped */ })
        await sleep(READ_EVERY_MS)
      }
    })()
  }

  async #stopReading (): Promise<void> {
    this.#client?.disconnect()
    this.#client = undefined
    await this.#reading
  }

  async #read (client: Redis): Promise<void> {
    const epoch = this.epochs.at(-1)!
    for (;;) {
      const page = await client.xrange(this.stream, `(${epoch.last}`, '+', 'COUNT', PAGE)
      for (const [id, flat] of page) epoch.add(id, flat)
      if (page.length < PAGE) return
    }
  }
}

function newFolder (): string {
  return mkdtempSync(join(tmpdir(), 'tooljet-embed-chaos-'))
}

function connect (port: number): Redis {
  const client = new Redis(port, '127.0.0.1', { maxRetriesPerRequest: null })
  client.on('error', () => {})
  return client
}
