import { createHash } from 'node:crypto'
import { memoized } from '../memoized.js'

/** Keys of each index, a fixed number. `scripts/queries/events.lua` has the same numbers. */
const EMAIL_BUCKETS = 32
const APP_BUCKETS = 8

/** Where an index has the records of a value. */
export interface IndexPlace {
  key: string
  /** 32 bits of the value's hash, which other values may share. */
  hash: number
}

/**
 * Keys that belong to a stream, in its slot. An index has a fixed number of buckets by hash: strings of records of 14
 * bytes each, in the order of the stream: hash (4), and the id of the event: ms (6) and number (4). The queries and the
 * scripts name them the same way.
 */
export class AuditKeys {
  readonly #start: string
  readonly email = memoized(10_000, (email) => this.#placeOf('email', EMAIL_BUCKETS, email))
  readonly app = memoized(1000, (app) => this.#placeOf('app', APP_BUCKETS, app))

  constructor (readonly stream: string) {
    this.#start = hasTag(stream) ? stream : `{${stream}}`
  }

  /** A string: id and mac of the entry that an instance wrote last, so that a batch that is sent again adds nothing. */
  written (instance: string): string {
    return `${this.#start}:written:${instance}`
  }

  /** A hash: how many entries of the stream are indexed, and how long each bucket is. */
  get index (): string {
    return `${this.#start}:index`
  }

  /**
   * A hash of counters: day, app, event and code, with tabs between, to "total hour:count hour:count …"; and each day to
   * the names of its counters, without the day, in lines.
   */
  get counts (): string {
    return `${this.#start}:counts`
  }

  /** The counters that a reindex makes, until they are complete. */
  get newCounts (): string {
    return `${this.counts}:new`
  }

  /** The buckets of both indexes. */
  get buckets (): string[] {
    return [
      ...Array.from({ length: EMAIL_BUCKETS }, (_, i) => this.#bucket('email', i)),
      ...Array.from({ length: APP_BUCKETS }, (_, i) => this.#bucket('app', i)),
    ]
  }

  #placeOf (kind: string, buckets: number, value: string): IndexPlace {
    const digest = createHash('sha1').update(value).digest()
    return { key: this.#bucket(kind, digest.readUInt32BE(0) % buckets), hash: digest.readUInt32BE(4) }
  }

  #bucket (kind: string, number: number): string {
    return `${this.#start}:index:${kind}:${number}`
  }
}

/** Whether a key has a hash tag, which alone decides the slot in Redis Cluster. */
function hasTag (key: string): boolean {
  return /^[^{]*\{[^}]+\}/.test(key)
}

/** A stream's key: braces other than around a hash tag would put the indexes into another slot. */
export const STREAM_NAME = /^(?=.)[^{}\s]*(?:\{[^{}\s]+\}[^{}\s]*)?$/
