import { embedError } from '../errors.js'
import type { AuditFields } from './event.js'
import type { AuditStream } from './stream.js'

const MAX_BATCH = 128
const RETRY_MS = 250

interface Pending {
  fields: AuditFields
  written?: (() => void) | undefined
  failed?: (error: unknown) => void
}

/** Writes events to the stream in their order, in batches, again and again until Redis has them. */
export class AuditWriter {
  readonly #stream: AuditStream
  readonly #instance: string
  readonly #maxBacklog: number
  readonly #onLost: (fields: AuditFields) => void
  #queue: Pending[] = []
  #running: Promise<void> | undefined
  #isRunning = false
  /** Id after which this instance's unconfirmed events are, if they are in the stream. */
  #after: string | undefined
  /** An attempt without an answer may have written events after all. */
  #inDoubt = false
  #wake: (() => void) | undefined
  #closed = false

  constructor (stream: AuditStream, instance: string, maxBacklog: number, onLost: (fields: AuditFields) => void) {
    this.#stream = stream
    this.#instance = instance
    this.#maxBacklog = maxBacklog
    this.#onLost = onLost
  }

  get backlog (): number {
    return this.#queue.length
  }

  /** Takes an event and returns at once. @param written called when Redis has it */
  add (fields: AuditFields, written?: () => void): void {
    this.#enqueue({ fields, written })
  }

  /** Takes an event and waits until Redis has it. @throws TOOLJET_EMBED_REDIS_DOWN; the event stays to be written */
  addAndWait (fields: AuditFields): Promise<void> {
    return new Promise((resolve, reject) => this.#enqueue({ fields, written: resolve, failed: reject }))
  }

  /** Writes what waits, within the bound; what is left then goes to `onLost`. */
  async close (boundMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const bound = new Promise<void>((resolve) => { timer = setTimeout(resolve, boundMs) })
    this.#wake?.()
    await Promise.race([this.#running, bound])
    clearTimeout(timer)
    this.#closed = true
    this.#wake?.()
    for (const { fields, failed } of this.#queue.splice(0)) {
      this.#onLost(fields)
      failed?.(embedError('TOOLJET_EMBED_REDIS_DOWN'))
    }
  }

  #enqueue (pending: Pending): void {
    if (this.#closed || this.#queue.length >= this.#maxBacklog) {
      this.#onLost(pending.fields)
      pending.failed?.(embedError('TOOLJET_EMBED_REDIS_DOWN', { detail: 'too many audit events wait for it' }))
      return
    }
    this.#queue.push(pending)
    if (!this.#isRunning) this.#running = this.#run()
  }

  async #run (): Promise<void> {
    this.#isRunning = true
    await new Promise(setImmediate) // events of one tick make one batch
    while (this.#queue.length > 0 && !this.#closed) {
      try {
        await this.#writeBatch()
      } catch (error) {
        for (const pending of this.#queue) pending.failed?.(error)
        await this.#pause()
      }
    }
    this.#isRunning = false // at once: an event that comes from now on needs another run
  }

  async #writeBatch (): Promise<void> {
    this.#after ??= await this.#stream.tip()
    if (this.#inDoubt) {
      const { seq, after } = await this.#stream.lookFor(this.#instance, this.#after)
      this.#after = after
      this.#confirm(seq)
    }
    const batch = this.#queue.slice(0, MAX_BATCH).map(({ fields }) => fields)
    if (batch.length === 0) return
    this.#inDoubt = true
    const { last, excess } = await this.#stream.append(this.#instance, batch)
    if (last === undefined) return // it came too late; what came before it may be there
    this.#inDoubt = false
    if (last !== '') this.#after = last
    this.#confirm(Number(batch.at(-1)!['seq']))
    if (excess !== undefined) await this.#stream.trim(excess) // nobody who waits for an event waits for this
  }

  /** Takes out of the queue what is known to be written. */
  #confirm (seq: number): void {
    while (this.#queue.length > 0 && Number(this.#queue[0]!.fields['seq']) <= seq) this.#queue.shift()!.written?.()
  }

  #pause (): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, RETRY_MS).unref()
      this.#wake = () => { clearTimeout(timer); resolve() }
    })
  }
}
