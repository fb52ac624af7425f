import { Script } from '../redis/script.js'
import type { ScriptClient } from '../redis/script-client.js'
import type { AuditKeys, IndexPlace } from './audit-keys.js'
import type { NewFields } from './event.js'
import type { SignedEvent } from './signer.js'

const APPEND = Script.of('audit/scripts/counters.lua', 'audit/scripts/append.lua')

export interface Retention {
  /** 0: for ever. */
  retentionMs: number
  /** 0: any number. */
  maxEntries: number
}

/** An entry of an instance: where it is, and what proves that it is there. */
export interface WrittenEntry {
  id: string
  mac: string
}

/** An event that waits for Redis. */
export interface QueuedEvent extends SignedEvent {
  /** Where its index entries belong. */
  email: IndexPlace | undefined
  app: IndexPlace | undefined
  /** The field of `counts`, a line feed and the hour. */
  counter: string
  /** How many answers it counts for. */
  count: number
}

export function toQueued ({ names, values, mac }: SignedEvent, fields: NewFields, keys: AuditKeys): QueuedEvent {
  const { email, app, count = '1' } = fields
  return {
    names,
    values,
    mac,
    email: email === undefined ? undefined : keys.email(email),
    app: app === undefined ? undefined : keys.app(app),
    counter: counterOf(fields).join('\n'),
    count: Number(count),
  }
}

/** What came of writing a batch. */
export interface Appended {
  /** How many of its events, from the first, are in the stream. */
  written: number
  /** The last of them. */
  last: WrittenEntry | undefined
  /** Why the stream takes no entry any more, whatever it is; '' where it does. */
  refusal: string
  /** What became of this instance's last entry before. */
  integrity: '' | 'shortened' | 'replaced'
  /** How many entries were too many, or too old. */
  trimmed: number
  /** Why something besides the events could not be written; '' when all is well. */
  problem: string
  /** Nothing was done, for Redis knows this as the last that the instance wrote; '' when it was done. */
  otherMark: string
}

/** In place of a mark: whatever Redis knows. */
export const ANY_MARK = '*'

/**
 * Writes one instance's events, each once, however often this is sent.
 * @param own the entry that it wrote last, if it knows one
 * @param mark the id of it that Redis knows, as far as this instance knows
 * @param oldestDay before which counters are dropped, like `2026-01-31`; '': none is
 * @returns nothing when it came too late: an earlier attempt may have been carried out long before
 */
export async function append (scripts: ScriptClient, keys: AuditKeys, { retentionMs, maxEntries }: Retention, oldestDay: string, instance: string, events: readonly QueuedEvent[], own?: WrittenEntry, mark: string = ANY_MARK): Promise<Appended | undefined> {
  const declared = [keys.stream, keys.written(instance), keys.index, keys.counts]
  const numberOf = numbering((key) => declared.push(key))
  const shapes: string[] = []
  const shapeOf = numbering((names) => shapes.push(JSON.stringify(names.split(','))))
  const counters: string[] = []
  const counterNumber = numbering((counter) => counters.push(JSON.stringify(counter.split('\n'))))
  const placed = (place: IndexPlace | undefined): string => (place === undefined ? '0,0' : `${numberOf(place.key)},${place.hash}`)

  const rows = events.map(({ names, email, app, counter, count }) => `[${shapeOf(names)},${counterNumber(counter)},${count},${placed(email)},${placed(app)}]`)
  const batch = `{"shapes":[${shapes.join()}],"counters":[${counters.join()}],"rows":[${rows.join()}]}`
  const values = Buffer.from(events.map(({ values }) => values).join(''), 'latin1')
  const reply = await scripts.runOnce(APPEND, declared, [own?.id ?? '', own?.mac ?? '', retentionMs, maxEntries, oldestDay, batch, values, mark])
  if (reply === undefined) return undefined
  const [written, last, refusal, integrity, trimmed, problem, otherMark] = reply.values.map(String) as [string, string, string, Appended['integrity'], string, string, string]
  return {
    written: Number(written),
    last: last === '' ? undefined : { id: last, mac: events[Number(written) - 1]!.mac },
    refusal,
    integrity,
    trimmed: Number(trimmed),
    problem,
    otherMark,
  }
}

/** What a counter depends on. */
type CountedFields = Pick<NewFields, 'time' | 'event' | 'outcome' | 'code' | 'app'>

/** Only where it did not succeed, or was refused by ToolJet, may a client have made up an app. */
function isCountedApp ({ outcome, code }: CountedFields): boolean {
  return outcome === 'success' || code === 'TOOLJET_EMBED_ACCESS_DENIED'
}

/** In which counters an event counts. */
export function counterOf (fields: CountedFields): [field: string, hour: string] {
  const { time = '', event = '', code = '-', app } = fields
  const counted = app !== undefined && isCountedApp(fields) ? app : '-'
  return [`${time.slice(0, 10)}\t${onOneLine(counted)}\t${onOneLine(event)}\t${onOneLine(code)}`, time.slice(11, 13)]
}

function onOneLine (text: string): string {
  return text.replace(/[\t\n]/g, ' ')
}

/** Numbers what it is given from 1 on, each once. @param add what is new @returns nothing that is used */
function numbering (add: (text: string) => number): (text: string) => number {
  const numbers = new Map<string, number>()
  return (text) => {
    let number = numbers.get(text)
    if (number === undefined) numbers.set(text, number = add(text))
    return number
  }
}
