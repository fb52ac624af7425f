import type { RedisLike } from '../redis/redis-like.js'
import { Script } from '../redis/script.js'
import { nameOf, type AuditKeys } from './indexes.js'
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
 * All events are one argument: most of the cost of a script is in their number. An event is its values only, the names
 * of its fields are sent once for all events that have the same ones.
 *
 * KEYS: stream, written. The indexes' names are made of the stream's, in its slot.
 * ARGV: time in ms at which this was sent, most entries (0: any number), longest age in ms (0: any age), and JSON: a
 *       list of shapes, each of which of its fields are seq and app (0: none) and their names, and a list of events,
 *       each of the number of its shape, its e-mail's name in the index (empty: none), and its values.
 * Returns Redis's time in ms, the id of the last event appended, and why nothing could be trimmed; or the time alone
 * when it came too late.
 */
const APPEND = new Script(`
local call, stream = redis.call, KEYS[1]
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if math.abs(now - ARGV[1]) > ${LATEST_MS} then return { string.format('%.0f', now) } end

local shapes, events = unpack(cjson.decode(ARGV[4]))
for _, shape in ipairs(shapes) do
  shape.command = { 'XADD', stream, '*' }
  for i = 3, #shape do shape.command[2 * i - 2] = shape[i] end
end

local start = stream:find('{[^}]+}') and stream or '{' .. stream .. '}'
local emailKey, appKey = start .. ':email:', start .. ':app:'
local indexed = {}
local function index (key, id)
  local ids = indexed[key]
  indexed[key] = ids and ids .. ' ' .. id or id
end

local written, last = tonumber(call('GET', KEYS[2]) or 0), ''
for _, event in ipairs(events) do
  local shape, email = shapes[event[1]], event[2]
  local seqAt, appAt, command = shape[1], shape[2], shape.command
  local seq = tonumber(event[seqAt + 2])
  if seq > written then
    for i = 3, #event do command[2 * i - 1] = event[i] end
    last = call(unpack(command))
    if email ~= '' then index(emailKey .. email, last) end
    if appAt > 0 then index(appKey .. event[appAt + 2], last) end
    written = seq
  end
end
call('SET', KEYS[2], string.format('%.0f', written), 'PX', ${WRITTEN_MS})

for key, ids in pairs(indexed) do
  local first, further = ids, ''
  local space = ids:find(' ', 1, true)
  if space then first, further = ids:sub(1, space - 1), ids:sub(space + 1) end
  if type(redis.pcall('XADD', key, first, 'ids', further)) == 'table' then
    call('DEL', key) -- of a stream of this name that is gone, and whose ids were greater
    call('XADD', key, first, 'ids', further)
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

  local touched = {}
  for i = 1, gone do
    local fields = entries[i][2]
    for f = 1, #fields, 2 do
      if fields[f] == 'email' then touched[emailKey .. redis.sha1hex(fields[f + 1]):sub(1, 20)] = true
      elseif fields[f] == 'app' then touched[appKey .. fields[f + 1]] = true end
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
  const numbers = new Map<string, number>()
  const shapes: unknown[] = []
  const rows: unknown[] = []
  for (const fields of events) {
    const own = Object.keys(fields)
    const shape = own.join()
    if (!numbers.has(shape)) numbers.set(shape, shapes.push([own.indexOf('seq') + 1, own.indexOf('app') + 1, ...own]))
    const { email } = fields
    rows.push([numbers.get(shape), email === undefined ? '' : nameOf(email), ...Object.values(fields)])
  }
  const args = [sentAt, maxEntries, retentionMs, JSON.stringify([shapes, rows])]
  const [now, last, notTrimmed = ''] = await APPEND.run(redis, [keys.stream, keys.written(instance)], args) as [string, string?, string?]
  return { now: Number(now), last, notTrimmed }
}
