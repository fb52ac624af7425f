import { createHmac, createSecretKey, timingSafeEqual, type KeyObject } from 'node:crypto'
import { FIELD_NAMES, SCHEMA, type AuditFields, type NewFields } from './event.js'

/** An event as it is sent to Redis: made once, and without any reference to what a client sent. */
export interface SignedEvent {
  /** Names of its fields, with ',' between. */
  names: string
  /** Their values, the mac last, each ended by a NUL, which none of them has; as UTF-8 in a string of one byte for each character. */
  values: string
  mac: string
}

/**
 * Authenticates events: each mac covers the names and values of all other fields, the mac of the instance's event before
 * (`prev`) among them, and the stream's name. A mac begins with the time of its event, so that `prev` tells when the
 * event before was, be that still there or not.
 */
export class EventSigner {
  readonly #keys: readonly KeyObject[]
  readonly #stream: string
  /** By which of them an event has: but a few sets. */
  readonly #names = new Map<number, readonly [names: string, namesWithMac: string]>()

  /**
   * @param keys of purpose `audit`; the first makes macs, all check them
   * @param stream as Redis knows it
   */
  constructor (keys: readonly Buffer[], stream: string) {
    this.#keys = keys.map((key) => createSecretKey(key))
    this.#stream = stream
  }

  /** @param fields without `mac`, which they get @param time of the event, milliseconds since 1970 */
  sign (fields: NewFields, time: number): SignedEvent {
    const given: string[] = []
    let shape = 0 // a bit for each name
    for (const name of FIELD_NAMES) {
      const value = fields[name]
      shape = shape * 2 + (value === undefined ? 0 : 1)
      if (value !== undefined) given.push(value)
    }
    const [names, namesWithMac] = this.#namesOf(shape, fields)
    const values = joined(given)
    const mac = this.#macWith(this.#keys[0]!, time, names, values)
    fields.mac = mac
    return { names: namesWithMac, values: bytesOf(values) + mac + END, mac }
  }

  #namesOf (shape: number, fields: NewFields): readonly [names: string, namesWithMac: string] {
    let names = this.#names.get(shape)
    if (names === undefined) {
      const without = FIELD_NAMES.filter((name) => fields[name] !== undefined).join()
      this.#names.set(shape, names = [without, `${without},mac`])
    }
    return names
  }

  /** @param flat fields and values of an entry as Redis gives them @returns the event's fields; nothing when it is none of this stream and key */
  verify (flat: readonly string[]): AuditFields | undefined {
    const names: string[] = []
    const values: string[] = []
    const fields: AuditFields = {}
    let order = -1
    for (let i = 0; i < flat.length; i += 2) {
      const name = flat[i]!
      const place = ORDER.get(name)
      if (place === undefined || place <= order) return undefined // unknown, doubled, or in another order than ours
      order = place
      fields[name] = flat[i + 1]!
      if (name === 'mac') continue
      names.push(name)
      values.push(flat[i + 1]!)
    }
    if (fields['schema'] !== SCHEMA || !/^[1-9]\d{0,15}$/.test(fields['seq'] ?? '')) return undefined
    const time = Date.parse(fields['time'] ?? '')
    const given = fields['mac']
    if (given === undefined || Number.isNaN(time)) return undefined
    return this.#keys.some((key) => isSame(given, this.#macWith(key, time, names.join(), joined(values)))) ? fields : undefined
  }

  #macWith (key: KeyObject, time: number, names: string, values: string): string {
    return `${time.toString(36)}.${createHmac('sha256', key).update(`${this.#stream}\n${names}\n${values}`).digest('base64url')}`
  }
}

const ORDER: ReadonlyMap<string, number> = new Map(FIELD_NAMES.map((name, i) => [name, i]))

/** The fields of a signed event. */
export function fieldsOfSigned ({ names, values }: SignedEvent): AuditFields {
  const read = Buffer.from(values, 'latin1').toString().split(END)
  return Object.fromEntries(names.split(',').map((name, i) => [name, read[i]!]))
}

/** When the event of a mac was, milliseconds since 1970. @param mac of a valid event, or its `prev` */
export function timeOfMac (mac: string): number {
  return parseInt(mac, 36)
}

/** Ends a value. */
const END = '\0'

function joined (values: readonly string[]): string {
  return values.join(END) + END
}

/** A text as UTF-8 in a string of one byte for each character: it takes half the memory of one that is not ASCII. */
function bytesOf (text: string): string {
  return Buffer.byteLength(text) === text.length ? text : Buffer.from(text).toString('latin1')
}

function isSame (one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)]
  return a.length === b.length && timingSafeEqual(a, b)
}
