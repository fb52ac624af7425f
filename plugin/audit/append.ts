import type { RedisLike } from '../redis/redis-like.js'
import { Script } from '../redis/script.js'
import type { AuditKeys } from './indexes.js'
import type { AuditFields } from './event.js'

/** How long Redis remembers what an instance has written: longer than a batch can be under way. */
const WRITTEN_MS = 20_000
/** A batch that arrives later than this after it was sent is refused, and looked for before it is sent again. */
const LATEST_MS = 10_000
/** Entries are trimmed when there are so many too many, or when the oldest is so much too old; and so many at once. */
const SPARE_ENTRIES = 100
const SPARE_MS = 3_600_000
const TRIM_AT_MOST = 160

/**
 * Appends one instance's events in order, each once, with their indexes, and trims what is too much or too old from
 * both. In an index an entry has the id of an event, and in its field `ids` those of further ones of the same batch.
 * Values only are sent for each event, the names of its fields once for all events that have the same ones: most of
 * the cost of a script is in its arguments.
 *
 * KEYS: stream, written, then the indexes that these events go to.
 * ARGV: time in ms at which this was sent, most entries (0: any number), longest age in ms (0: any age), how many
 *       shapes follow, for each shape how many fields and their names; then for each event its seq, the number of
 *       its shape, its e-mail's and its app's place in KEYS (0: none), and its values.
 * Returns Redis's time in ms, the id of the last event appended, and why nothing could be trimmed; or the time alone
 * when it came too late.
 */
const APPEND = new Script(`
local call, stream = redis.call, KEYS[1]
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if math.abs(now - ARGV[1]) > ${LATEST_MS} then return { string.format('%.0f', now) } end

local shapes, at = {}, 5
for number = 1, tonumber(ARGV[4]) do
  local size, command = tonumber(ARGV[at]), { 'XADD', stream, '*' }
  for i = 1, size do command[2 * i + 2] = ARGV[at + i] end
  shapes[number] = { size = size, command = command }
  at = at + size + 1
end

local groups = {}
local function remember (place, id)
  local ids = groups[place]
  if ids then ids[#ids + 1] = id elseif place ~= '0' then groups[place] = { id } end
end

local written, last, count = tonumber(call('GET', KEYS[2]) or 0), '', #ARGV
while at < count do
  local seq, shape = tonumber(ARGV[at]), shapes[tonumber(ARGV[at + 1])]
  local size, command = shape.size, shape.command
  if seq > written then
    for i = 1, size do command[2 * i + 3] = ARGV[at + 3 + i] end
    last = call(unpack(command, 1, 2 * size + 3))
    remember(ARGV[at + 2], last)
    remember(ARGV[at + 3], last)
    written = seq
  end
  at = at + 4 + size
end
call('SET', KEYS[2], string.format('%.0f', written), 'PX', ${WRITTEN_MS})

for place, ids in pairs(groups) do
  local key, further = KEYS[tonumber(place)], table.concat(ids, ' ', 2)
  if type(redis.pcall('XADD', key, ids[1], 'ids', further)) == 'table' then
    call('DEL', key) -- of a stream of this name that is gone, and whose ids were greater
    call('XADD', key, ids[1], 'ids', further)
  end
end

local function isBefore (a, b)
  local ms, seq = a:match('(%d+)-(%d+)')
  local otherMs, otherSeq = b:match('(%d+)-(%d+)')
  if ms ~= otherMs then return tonumber(ms) < tonumber(otherMs) end
  return tonumber(seq) < tonumber(otherSeq)
end

local function trimIndex (key, cut)
  local before = call('XREVRANGE', key, '(' .. cut, '-', 'COUNT', 1)[1]
  local reachesPast = before and not isBefore(before[2][2]:match('%S+$') or before[1], cut)
  call('XTRIM', key, 'MINID', reachesPast and before[1] or cut)
  if call('XLEN', key) == 0 then call('DEL', key) end
end

local function trim ()
  local most, longest = tonumber(ARGV[2]), tonumber(ARGV[3])
  local excess = most > 0 and call('XLEN', stream) - most or 0
  if excess < ${SPARE_ENTRIES} then excess = 0 end
  local latest = longest > 0 and now - longest or 0
  local function ms (entry) return tonumber(entry[1]:match('%d+')) end
  local oldest = latest > 0 and call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if excess == 0 and not (oldest and ms(oldest) < latest - ${SPARE_MS}) then return end

  local entries = call('XRANGE', stream, '-', '+', 'COUNT', ${TRIM_AT_MOST} + 1)
  local gone = 0
  while gone < #entries - 1 and (gone < excess or ms(entries[gone + 1]) < latest) do gone = gone + 1 end
  local cut = entries[gone + 1][1]
  call('XTRIM', stream, 'MINID', cut)

  local start = stream:find('{[^}]+}') and stream or '{' .. stream .. '}'
  local touched = {}
  for i = 1, gone do
    local fields = entries[i][2]
    for f = 1, #fields, 2 do
      if fields[f] == 'email' then touched[start .. ':email:' .. redis.sha1hex(fields[f + 1]):sub(1, 20)] = true
      elseif fields[f] == 'app' then touched[start .. ':app:' .. fields[f + 1]] = true end
    end
  end
  for key in pairs(touched) do trimIndex(key, cut) end
end
local isTrimmed, problem = pcall(trim)

return { string.format('%.0f', now), last, isTrimmed and '' or tostring(problem) }
`)

export interface Retention {
  /** 0: for ever. */
  retentionMs: number
  /** 0: any number. */
  maxEntries: number
}

export interface Appended {
  /** Redis's time. */
  now: number
  /** Id of the last event: empty when all were there before, none when they came too late and are not written. */
  last: string | undefined
  /** Why what is too much or too old is still there; empty when all is well. */
  notTrimmed: string
}

/**
 * Writes one instance's events, each once.
 * @param sentAt milliseconds since 1970, of the fleet's clock
 */
export async function append (redis: RedisLike, keys: AuditKeys, { retentionMs, maxEntries }: Retention, sentAt: number, instance: string, events: readonly AuditFields[]): Promise<Appended> {
  const places = new Places([keys.stream, keys.written(instance)])
  const shapes = new Map<string, number>()
  const names: (string | number)[] = []
  const rows: (string | number)[] = []
  for (const fields of events) {
    const own = Object.keys(fields)
    const shape = own.join()
    if (!shapes.has(shape)) {
      shapes.set(shape, shapes.size + 1)
      names.push(own.length, ...own)
    }
    const { email, app } = fields
    rows.push(fields['seq']!, shapes.get(shape)!, email === undefined ? 0 : places.of(keys.email(email)), app === undefined ? 0 : places.of(keys.app(app)), ...Object.values(fields))
  }
  const [now, last, notTrimmed = ''] = await APPEND.run(redis, places.keys, [sentAt, maxEntries, retentionMs, shapes.size, ...names, ...rows]) as [string, string?, string?]
  return { now: Number(now), last, notTrimmed }
}

/** Numbers keys as they come. */
class Places {
  readonly #places = new Map<string, number>()

  constructor (readonly keys: string[]) {}

  of (key: string): number {
    let place = this.#places.get(key)
    if (place === undefined) this.#places.set(key, place = this.keys.push(key))
    return place
  }
}
