import type { Retention } from './append.js'

/** A problem of the log. */
export interface AuditProblem {
  /**
   * `gap`: events between two others are missing; `erased`: events at an instance's start are missing, and trimming does
   * not explain it; `forged`: an entry without a valid mac, changed or written without the key; `duplicate`: an event that
   * was there before; `reordered`: an event after one that it came before; `fork`: an event that does not follow the one
   * before it; `moved`: an entry whose id cannot be of when its event was written; `deleted`: somebody deleted entries; `key`: no entry at all has a mac of this key; `missing`: the app's log
   * has the event and the stream lacks it; `unlogged`: the stream has it, and the app's log lacks it; `index`: an index
   * does not have what the stream has; `counts`: a counter does not have what the stream has.
   */
  kind: 'gap' | 'erased' | 'forged' | 'duplicate' | 'reordered' | 'fork' | 'moved' | 'deleted' | 'key' | 'missing' | 'unlogged' | 'index' | 'counts'
  /** Id of the stream entry; for missing events, of the entry after them; absent where there is none. */
  id?: string
  /** Whose event. */
  instance?: string
  /** Its seq; for missing events, the first one. */
  seq?: number
  /** Description for people. */
  detail: string
}

/** What `verify()` found of one instance, from a start of the plugin to its end. */
export interface InstanceReport {
  /** Host, process and a random part. */
  instance: string
  /** How many of its events are in the stream, each counted once. */
  events: number
  /** Number of the first of them; it counts from 1. */
  firstSeq: number
  /** Number of the last of them. */
  lastSeq: number
  /** `false`: the instance runs, or ended in a way after which events may be missing. */
  closed: boolean
  /** `true`: its first events are no longer in the stream. */
  trimmed: boolean
}

/** What `verify()` found. */
export interface AuditReport {
  /** Every entry is an event of this log, none is missing that trimming does not explain, and none is doubled or out of order. */
  ok: boolean
  /** Valid events in the stream. */
  events: number
  /** Entries in the stream. */
  entries: number
  /** Time of the oldest event, ISO 8601. */
  since?: string
  /** Time of the newest event, ISO 8601. */
  until?: string
  /** Entries that are no longer there; only Redis 7 and later counts them. */
  trimmed?: number
  /** Events that were written more than a minute after they happened: Redis was unavailable, or somebody moved them. */
  late: number
  /** The retention by which missing events were judged; 0: for ever, or any number. */
  retention: Retention
  /** `true`: neither the log nor an option has the retention, so any missing event is a problem. */
  retentionAssumed: boolean
  /** The instances, in the order of their first events. */
  instances: InstanceReport[]
  /** The first 1,000 problems, in the order of the stream. */
  problems: AuditProblem[]
  /** How many problems there are. */
  problemCount: number
}
