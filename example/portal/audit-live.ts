import { setTimeout as sleep } from 'node:timers/promises'
import { olderOf, PAGE, type AuditEntry, type AuditSource } from './audit-log.js'
import { compareIds, type Tail } from './audit-tail.js'

const HEARTBEAT_MS = 15_000
const RETRY_MS = 1000
/** Pages of missed events that one who comes back gets; who has missed more does better to look anew. */
const CATCH_UP_PAGES = 20

/**
 * The events after an id, or from now on, as server-sent events. Besides: `away` and `back` when Redis goes and comes,
 * and `stale` when too much was missed.
 */
export async function * liveEvents (log: AuditSource, tail: Tail, from: string | undefined, signal: AbortSignal): AsyncGenerator<string> {
  let after = await startOf(log, from).catch(() => undefined)
  let isAway = false
  let pages = 0
  let grownTo: string | undefined
  let leave: (() => void) | undefined
  yield 'retry: 1000\n\n' // the stream is open: what comes from here on is told
  try {
    while (!signal.aborted) {
      let page: AuditEntry[]
      try {
        after ??= await startOf(log, from)
        page = await log.after(after)
      } catch {
        if (!isAway) yield message('away')
        isAway = true
        await sleep(RETRY_MS, undefined, { signal }).catch(() => {})
        continue
      }
      if (isAway) yield message('back')
      isAway = false
      if (page.length === 0 && grownTo !== undefined && compareIds(grownTo, after) > 0) after = grownTo // deleted since
      if (page.length > 0) {
        after = page.at(-1)!.id
        yield page.map((entry) => `id: ${entry.id}\ndata: ${JSON.stringify(entry)}\n\n`).join('')
      }
      if (page.length === PAGE) {
        if (leave === undefined && ++pages === CATCH_UP_PAGES) return yield message('stale')
        continue
      }
      leave ??= tail.join(after)
      grownTo = await tail.growsPast(after, HEARTBEAT_MS, signal)
      if (grownTo === undefined) yield ':\n\n' // a heartbeat; and reading again does no harm
    }
  } finally {
    leave?.()
  }
}

/** An id from the future would hide all until then. */
async function startOf (log: AuditSource, from: string | undefined): Promise<string> {
  const tip = await log.tip()
  return from === undefined ? tip : olderOf(from, tip)
}

function message (event: string): string {
  return `event: ${event}\ndata: {}\n\n`
}
