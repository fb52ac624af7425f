import { embedError } from '../errors.js'
import { clockJumps } from '../redis/script-client.js'
import type { Timers } from '../timers.js'
import { ANY_MARK, type QueuedEvent, type WrittenEntry } from './append.js'
import type { AuditFields } from './event.js'
import { fieldsOfSigned } from './signer.js'
import type { AuditStream } from './stream.js'

const MAX_BATCH = 128
const RETRY_MS = 250
/** Of an average event, for the bound of all that wait. */
const BYTES_PER_EVENT = 1024

interface Pending {
  event: QueuedEvent
  written?: (() => void) | undefined
  failed?: (error: unknown) => void
}

/** An attempt whose reply did not arrive: its events may be in the stream. */
interface Unconfirmed {
  /** They are so many, from the head of the queue. */
  count: number
  /** They are after this id, if they are there. */
  after: string
}

/** What is wrong with the stream. */
export type StreamProblem =
  | { kind: 'shortened' | 'replaced' }
  | { kind: 'unwritable', reason: string }

type WritableStream = Pick<AuditStream, 'isUnavailable' | 'startOfWrite' | 'append' | 'find' | 'trimIndex'>

interface WriterDeps {
  stream: WritableStream
  timers: Timers
  /** Of an event that does not get into the stream. */
  onLost: (fields: AuditFields) => void
  /** Before each event, and when the stream takes entries again: nothing. */
  onProblem: (problem: StreamProblem | undefined) => void
}

/**
 * Writes events to the stream in their order, in batches, again and again until Redis has them. What it knows of its own
 * writes it believes only where the stream has an entry with the mac of the event.
 */
export class AuditWriter {
  readonly #stream: WritableStream
  readonly #timers: Timers
  readonly #instance: string
  readonly #maxBacklog: number
  #gatherMs: number
  readonly #onLost: (fields: AuditFields) => void
  readonly #onProblem: (problem: StreamProblem | undefined) => void
  #queue: Pending[] = []
  #bytes = 0
  #running: Promise<void> | undefined
  #isRunning = false
  #last: WrittenEntry | undefined
  #mark = ''
  #isSuperseded = false
  #isLate = false
  #unconfirmed: Unconfirmed | undefined
  #isWritable = true
  #wake: (() => void) | undefined
  #closed = false

  /** @param settings.gatherMs so long an event may wait for others to be written with; 0: until the turn's end */
  constructor ({ stream, timers, onLost, onProblem }: WriterDeps, instance: string, { maxBacklog, gatherMs }: { maxBacklog: number, gatherMs: number }) {
    this.#stream = stream
    this.#timers = timers
    this.#instance = instance
    this.#maxBacklog = maxBacklog
    this.#gatherMs = gatherMs
    this.#onLost = onLost
    this.#onProblem = onProblem
  }

  get backlog (): number {
    return this.#queue.length
  }

  /** Whether the stream took the last event. */
  get isWritable (): boolean {
    return this.#isWritable
  }

  /** The event that it wrote last. */
  get last (): WrittenEntry | undefined {
    return this.#last
  }

  /** The mac of the newest event that is written, or waits to be: what came after it is lost. */
  get newestMac (): string | undefined {
    return this.#queue.at(-1)?.event.mac ?? this.#last?.mac
  }

  /** Takes an event and returns at once. @param written called when Redis has it */
  add (event: QueuedEvent, written?: () => void): void {
    this.#enqueue({ event, written })
  }

  /** Takes an event and waits until Redis has it. @throws TOOLJET_EMBED_REDIS_DOWN; the event stays to be written */
  addAndWait (event: QueuedEvent): Promise<void> {
    return new Promise((resolve, reject) => this.#enqueue({ event, written: resolve, failed: reject }))
  }

  /** Writes what waits, within the bound; what is left then goes to `onLost`. */
  async close (timeoutMs: number): Promise<void> {
    let cancel = (): void => {}
    const bound = new Promise<void>((resolve) => { cancel = this.#timers.afterAlive(timeoutMs, resolve) })
    this.#gatherMs = 0
    this.#wake?.()
    await Promise.race([this.#running, bound])
    cancel()
    this.#closed = true
    this.#wake?.()
    this.#reportLost(embedError('TOOLJET_EMBED_REDIS_DOWN'))
  }

  #enqueue (pending: Pending): void {
    const { values } = pending.event
    const isFull = this.#queue.length >= this.#maxBacklog || this.#bytes + values.length > this.#maxBacklog * BYTES_PER_EVENT
    if (this.#closed || isFull) {
      this.#onLost(fieldsOfSigned(pending.event))
      pending.failed?.(embedError('TOOLJET_EMBED_REDIS_DOWN', { detail: 'too many audit events wait for it' }))
      return
    }
    this.#queue.push(pending)
    this.#bytes += values.length
    if (!this.#isRunning) this.#running = this.#run()
    if (this.#queue.length === MAX_BATCH) this.#wake?.()
  }

  async #run (): Promise<void> {
    this.#isRunning = true
    await new Promise<void>((resolve) => this.#timers.endOfTurn(resolve)) // events of one turn make one batch
    while (this.#queue.length > 0 && !this.#closed) {
      if (this.#gatherMs > 0 && this.#queue.length < MAX_BATCH) await this.#pause(this.#gatherMs)
      try {
        await this.#writeBatch()
      } catch (error) {
        for (const pending of this.#queue) pending.failed?.(error)
        await this.#pause(RETRY_MS)
      }
    }
    this.#isRunning = false // at once: an event that comes from now on needs another run
  }

  async #writeBatch (): Promise<void> {
    if (this.#unconfirmed !== undefined) await this.#findUnconfirmed(this.#unconfirmed)
    if (this.#stream.isUnavailable) throw embedError('TOOLJET_EMBED_REDIS_DOWN')
    // what is sent again is the same batch: then an earlier attempt that Redis carries out later finds it written
    const count = this.#unconfirmed?.count ?? Math.min(this.#queue.length, MAX_BATCH)
    if (count === 0) return
    this.#unconfirmed ??= { count, after: this.#stream.startOfWrite() }
    const appended = await this.#stream.append(this.#instance, this.#queue.slice(0, count).map(({ event }) => event), this.#last, this.#mark)
    if (appended === undefined) { // once more, after a look whether it is written
      if (this.#isLate) throw clockJumps()
      this.#isLate = true
      return
    }
    this.#isLate = false
    const { written, last, refusal, integrity, trimmed, otherMark } = appended
    if (otherMark !== '') { // after a failover; twice in a row it is somebody else's
      this.#mark = this.#isSuperseded ? ANY_MARK : otherMark
      this.#isSuperseded = true
      return
    }
    this.#isSuperseded = false
    this.#unconfirmed = undefined
    if (last !== undefined) this.#mark = last.id
    this.#last = last ?? (integrity === '' ? this.#last : undefined) // what is gone is told once
    this.#shiftWritten(written)
    if (integrity !== '') this.#onProblem({ kind: integrity })
    if (refusal !== '') {
      if (this.#isWritable) this.#onProblem({ kind: 'unwritable', reason: refusal })
      this.#isWritable = false
      this.#reportLost(embedError('TOOLJET_EMBED_REDIS_DOWN', { detail: 'the audit stream takes no entry', isRefusal: true }))
    } else if (!this.#isWritable) {
      this.#isWritable = true
      this.#onProblem(undefined)
    }
    if (trimmed > 0) this.#stream.trimIndex()
  }

  /** Finds which events of an unconfirmed attempt were written; each part of the stream is read once. */
  async #findUnconfirmed (batch: Unconfirmed): Promise<void> {
    for (let isOver = false; !isOver;) {
      const macs = this.#queue.slice(0, batch.count).map(({ event }) => event.mac)
      const { place, id, after, isEnd } = await this.#stream.find(macs, batch.after)
      if (place > 0) {
        this.#last = { id, mac: macs[place - 1]! }
        this.#mark = id
      }
      batch.after = after
      batch.count -= place
      this.#shiftWritten(place)
      isOver = isEnd || batch.count === 0
    }
    if (batch.count === 0) this.#unconfirmed = undefined
  }

  /** Removes the first `count` events from the queue: they are written. */
  #shiftWritten (count: number): void {
    for (const { event, written } of this.#queue.splice(0, count)) {
      this.#bytes -= event.values.length
      written?.()
    }
  }

  /** Gives up all events that wait. */
  #reportLost (error: unknown): void {
    this.#bytes = 0
    this.#unconfirmed = undefined
    for (const { event, failed } of this.#queue.splice(0)) {
      this.#onLost(fieldsOfSigned(event))
      failed?.(error)
    }
  }

  #pause (ms: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#timers.after(ms, resolve)
      this.#wake = () => { cancel(); resolve() }
    })
  }
}
