import { EventEmitter, once } from 'node:events'
import type { FastifyBaseLogger } from 'fastify'
import { PAGE, type AuditEntry, type AuditSource } from './audit-log.js'
import { compareIds, type Tail } from './audit-tail.js'

type Log = Pick<FastifyBaseLogger, 'info' | 'warn' | 'error'>

const MAX_EVENTS = 2500
const UNIT_MS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** The audit log of a portal without Redis: the newest events that this process has logged. */
export class MemoryAuditLog implements AuditSource, Tail {
  readonly #entries: AuditEntry[] = [] // the oldest first
  readonly #grown = new EventEmitter().setMaxListeners(0)
  #lastMs = 0
  #count = 0

  /** For the plugin's option `audit.logger`. @param log where its lines go besides */
  logger (log: Log): Log {
    return {
      info: (line: unknown, message?: string) => {
        const { tooljetEmbedAudit: fields } = line as { tooljetEmbedAudit?: Record<string, string> }
        if (fields !== undefined) this.#add(fields)
        log.info(line, message)
      },
      warn: log.warn.bind(log),
      error: () => { /* that an event cannot be written to Redis, which is known */ },
    }
  }

  async query (filters: Record<string, string>, limit: number, after?: string): Promise<{ entries: AuditEntry[], cursor: string | undefined }> {
    const matches = matcherOf(filters)
    const matching = this.#entries.filter((entry) => matches(entry) && (after === undefined || compareIds(entry.id, after) < 0)).reverse()
    const entries = matching.slice(0, limit)
    return { entries, cursor: matching.length > limit ? entries.at(-1)!.id : undefined }
  }

  async after (id: string): Promise<AuditEntry[]> {
    return this.#entries.filter((entry) => compareIds(entry.id, id) > 0).slice(0, PAGE)
  }

  async tip (): Promise<string> {
    return this.#lastId
  }

  /** Counts nothing: all that there is comes as live events. */
  async summary (): Promise<Awaited<ReturnType<AuditSource['summary']>>> {
    return { now: Date.now(), after: '0-0', minutes: [], isComplete: true }
  }

  join (): () => void {
    return () => {}
  }

  async growsPast (id: string, withinMs: number, signal: AbortSignal): Promise<string | undefined> {
    const newer = (): string | undefined => compareIds(this.#lastId, id) > 0 ? this.#lastId : undefined
    if (newer() === undefined) await once(this.#grown, 'event', { signal: AbortSignal.any([signal, AbortSignal.timeout(withinMs)]) }).catch(() => {})
    return newer()
  }

  close (): void {}

  get #lastId (): string {
    return this.#entries.at(-1)?.id ?? '0-0'
  }

  #add (fields: Record<string, string>): void {
    this.#lastMs = Math.max(this.#lastMs, Date.now()) // as Redis makes them: never older than the newest
    this.#entries.push({ id: `${this.#lastMs}-${this.#count++}`, fields })
    if (this.#entries.length > MAX_EVENTS) this.#entries.shift()
    this.#grown.emit('event')
  }
}

/** As the function tooljet_audit filters. */
function matcherOf ({ email, code, since, until, ...others }: Record<string, string>): (entry: AuditEntry) => boolean {
  const spelling = email?.replace(/[A-Z]/g, (letter) => letter.toLowerCase())
  const [from, to] = [momentOf('since', since) ?? 0, momentOf('until', until) ?? Infinity]
  return ({ id, fields }) => {
    const ms = Number(id.split('-')[0])
    return ms >= from && ms < to &&
      (spelling === undefined || fields['email'] === spelling) &&
      (code === undefined || fields['code'] === code || fields['code'] === `TOOLJET_EMBED_${code}`) &&
      Object.entries(others).every(([name, value]) => fields[name] === value)
  }
}

function momentOf (name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const [, count, unit] = /^(\d+)([smhd])$/.exec(text) ?? []
  const ms = /^\d{5,}$/.test(text) ? Number(text) : unit === undefined ? Date.parse(text) : Date.now() - Number(count) * UNIT_MS[unit]!
  if (!Number.isNaN(ms)) return ms
  throw Object.assign(new Error(`argument "${name}" is ${JSON.stringify(text)}, expected an ISO 8601 time, milliseconds since 1970, or a time ago like 24h, 7d`), { statusCode: 400 })
}
