import type { FleetClock } from '../redis/clock.js'
import type { RedisGuard } from '../redis/guard.js'
import { Script } from '../redis/script.js'
import type { AuditFields } from './event.js'

const MS_PER_DAY = 86_400_000
const PAGE = 500
/** Entries that one script may look through: more would hold up Redis. */
const MAX_SCAN = 2000

/**
 * Appends one instance's events in order, each once: what this instance wrote after the id given is skipped, so a
 * batch that is sent again after a lost answer, by us or by the client, adds nothing twice.
 *
 * KEYS: stream.
 * ARGV: instance, id after which to look for this instance's events, most entries (0: any number), longest age in ms
 *       (0: any age), most entries to look through, then for each event its seq, how many fields and values follow,
 *       and these.
 * Returns Redis's time in ms, or 0 when there was too much to look through and nothing was written.
 */
const APPEND = new Script(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local written = 0
local since = redis.call('XRANGE', KEYS[1], '(' .. ARGV[2], '+', 'COUNT', ARGV[5])
if #since == tonumber(ARGV[5]) then return 0 end
for _, entry in ipairs(since) do
  local fields, instance, seq = entry[2], nil, nil
  for i = 1, #fields, 2 do
    if fields[i] == 'instance' then instance = fields[i + 1] elseif fields[i] == 'seq' then seq = tonumber(fields[i + 1]) end
  end
  if instance == ARGV[1] and seq and seq > written then written = seq end
end

local at = 6
while at <= #ARGV do
  local seq, size = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  if seq > written then
    if ARGV[3] == '0' then
      redis.call('XADD', KEYS[1], '*', unpack(ARGV, at + 2, at + 1 + size))
    else
      redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', unpack(ARGV, at + 2, at + 1 + size))
    end
  end
  at = at + 2 + size
end
if ARGV[4] ~= '0' then
  redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f', now - ARGV[4]))
end
return now
`)

export interface StreamSettings {
  stream: string
  retentionDays: number
  maxEntries: number
}

/** The audit stream in Redis. Every method throws TOOLJET_EMBED_REDIS_DOWN when Redis is away. */
export class AuditStream {
  readonly #guard: RedisGuard
  readonly #clock: FleetClock
  readonly #settings: StreamSettings

  constructor (guard: RedisGuard, clock: FleetClock, settings: StreamSettings) {
    this.#guard = guard
    this.#clock = clock
    this.#settings = settings
  }

  /** Id of the newest entry. */
  async tip (): Promise<string> {
    const [newest] = await this.#guard.run((redis) => redis.xrevrange(this.#settings.stream, '+', '-', 'COUNT', 1))
    return newest?.[0] ?? '0-0'
  }

  /** @returns seq of this instance's last event after that id, and the id of the entry up to which it looked */
  async lookFor (instance: string, after: string): Promise<{ seq: number, after: string }> {
    let seq = 0
    for await (const { id, fields } of this.entries(after)) {
      after = id
      if (fields['instance'] === instance) seq = Number(fields['seq'])
    }
    return { seq, after }
  }

  /**
   * @param after id of an entry that is older than any of these events
   * @returns whether they are written now: not when others wrote too much after that id
   */
  async append (instance: string, after: string, events: readonly AuditFields[]): Promise<boolean> {
    const { stream, maxEntries, retentionDays } = this.#settings
    const args = events.flatMap((fields) => {
      const flat = Object.entries(fields).flat()
      return [fields['seq']!, flat.length, ...flat]
    })
    const now = await this.#guard.run((redis) => APPEND.run(redis, [stream], [instance, after, maxEntries, retentionDays * MS_PER_DAY, MAX_SCAN, ...args]))
    if (Number(now) === 0) return false
    this.#clock.set(Number(now))
    return true
  }

  /** Every entry after an id, oldest first, read page by page. */
  async * entries (after?: string): AsyncGenerator<{ id: string, fields: AuditFields }> {
    let from = after === undefined ? '-' : `(${after}`
    for (;;) {
      const page = await this.#guard.run((redis) => redis.xrange(this.#settings.stream, from, '+', 'COUNT', PAGE))
      for (const [id, flat] of page) yield { id, fields: pairsOf(flat) }
      if (page.length < PAGE) return
      from = `(${page[page.length - 1]![0]}`
    }
  }
}

function pairsOf (flat: string[]): AuditFields {
  const fields: AuditFields = {}
  for (let i = 0; i < flat.length; i += 2) fields[flat[i]!] = flat[i + 1]!
  return fields
}
