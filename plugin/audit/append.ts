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
 * Appends one instance's events in order, each once, with their indexes. In an index an entry has the id of an event,
 * and in its field `ids` those of further ones of the same batch. All events are one argument: most of the cost of a
 * script is in their number. An event is its values only, the names of its fields are sent once for all events that
 * have the same ones. What is too much or too old is only named here: its indexes are known by its entries alone, and
 * a script touches no key that it does not declare.
 *
 * KEYS: stream, written, and the indexes of the events, each once.
 * ARGV: time in ms at which this was sent, most entries (0: any number), longest age in ms (0: any age), and JSON: a
 *       list of shapes, each of which of its fields is seq and their names, and a list of events, each of the number
 *       of its shape, the numbers of its e-mail's and its app's index among the KEYS (0: none), and its values.
 * Returns Redis's time in ms, the id of the last event appended, and why it could not look for what is too much; then,
 * where there is something, the id of the oldest entry to keep and the e-mails and apps of those before it. Or the time
 * alone when it came too late.
 */
const APPEND = new Script(`
local call, stream = redis.call, KEYS[1]
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if math.abs(now - ARGV[1]) > ${LATEST_MS} then return { string.format('%.0f', now) } end

local shapes, events = unpack(cjson.decode(ARGV[4]))
for _, shape in ipairs(shapes) do
  shape.command = { 'XADD', stream, '*' }
  for i = 2, #shape do shape.command[2 * i] = shape[i] end
end

local indexed = {}
local function index (key, id)
  local ids = indexed[key]
  indexed[key] = ids and ids .. ' ' .. id or id
end

local written, last = tonumber(call('GET', KEYS[2]) or 0), ''
for _, event in ipairs(events) do
  local shape, email, app = shapes[event[1]], event[2], event[3]
  local command = shape.command
  local seq = tonumber(event[shape[1] + 3])
  if seq > written then
    for i = 4, #event do command[2 * i - 3] = event[i] end
    last = call(unpack(command))
    if email > 0 then index(email, last) end
    if app > 0 then index(app, last) end
    written = seq
  end
end
call('SET', KEYS[2], string.format('%.0f', written), 'PX', ${WRITTEN_MS})

for number, ids in pairs(indexed) do
  local key, first, further = KEYS[number], ids, ''
  local space = ids:find(' ', 1, true)
  if space then first, further = ids:sub(1, space - 1), ids:sub(space + 1) end
  if type(redis.pcall('XADD', key, first, 'ids', further)) == 'table' then
    call('DEL', key) -- of a stream of this name that is gone, and whose ids were greater
    call('XADD', key, first, 'ids', further)
  end
end

local function findExcess ()
  local most, longest = tonumber(ARGV[2]), tonumber(ARGV[3])
  local excess = most > 0 and call('XLEN', stream) - most or 0
  if excess < ${SPARE_ENTRIES} then excess = 0 end
  local latest = longest > 0 and now - longest or 0
  local function ms (entry) return tonumber(entry[1]:match('%d+')) end
  local oldest = latest > 0 and call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if excess == 0 and not (oldest and ms(oldest) < latest - ${SPARE_MS}) then return nil end

  local entries = call('XRANGE', stream, '-', '+', 'COUNT', ${TRIM_AT_MOST} + 1)
  local gone = 0
  while gone < #entries - 1 and (gone < excess or ms(entries[gone + 1]) < latest) do gone = gone + 1 end
  local named, seen = { email = {}, app = {} }, { email = {}, app = {} }
  for i = 1, gone do
    local fields = entries[i][2]
    for f = 1, #fields, 2 do
      local names, value = named[fields[f]], fields[f + 1]
      if names and not seen[fields[f]][value] then
        seen[fields[f]][value] = true
        names[#names + 1] = value
      end
    end
  end
  return entries[gone + 1][1], named.email, named.app
end
local hasLooked, keep, emails, apps = pcall(findExcess)

local reply = { string.format('%.0f', now), last, hasLooked and '' or tostring(keep) }
if hasLooked and keep then reply[4], reply[5], reply[6] = keep, emails, apps end
return reply
`)

/**
 * Removes all entries before one, from the stream and from their indexes. Both at once: were the indexes trimmed after
 * the stream, and that failed, nobody could tell any more which they were. As it is, the next batch finds the same excess.
 *
 * KEYS: stream, and the indexes of the entries before that one.
 * ARGV: id of the oldest entry to keep.
 * Returns why something is still there; empty when all is well.
 */
const TRIM = new Script(`
local call, keep = redis.call, ARGV[1]

local function isBefore (a, b)
  local ms, seq = a:match('(%d+)-(%d+)')
  local otherMs, otherSeq = b:match('(%d+)-(%d+)')
  if ms ~= otherMs then return tonumber(ms) < tonumber(otherMs) end
  return tonumber(seq) < tonumber(otherSeq)
end

local function trimIndex (key)
  local before = call('XREVRANGE', key, '(' .. keep, '-', 'COUNT', 1)[1]
  if not before then return end
  local reachesPast = not isBefore(before[2][2]:match('%S+$') or before[1], keep)
  call('XTRIM', key, 'MINID', reachesPast and before[1] or keep)
  if call('XLEN', key) == 0 then call('DEL', key) end
end

local isTrimmed, problem = pcall(call, 'XTRIM', KEYS[1], 'MINID', keep)
if not isTrimmed then return tostring(problem) end
local problems = ''
for i = 2, #KEYS do
  local isDone, reason = pcall(trimIndex, KEYS[i])
  if not isDone then problems = tostring(reason) end
end
return problems
`)

export interface Retention {
  /** 0: for ever. */
  retentionMs: number
  /** 0: any number. */
  maxEntries: number
}

/** Entries that are too many or too old. */
export interface Excess {
  /** Id of the oldest entry to keep. */
  keep: string
  /** Of the entries before it. */
  emails: readonly string[]
  apps: readonly string[]
}

export interface Appended {
  /** Redis's time. */
  now: number
  /** Id of the last event: empty when all were there before, none when they came too late and are not written. */
  last: string | undefined
  /** For `trim`. */
  excess: Excess | undefined
  /** Why nobody could look for what is too much or too old; empty when all is well. */
  problem: string
}

/**
 * Writes one instance's events, each once.
 * @param sentAt milliseconds since 1970, of the fleet's clock
 */
export async function append (redis: RedisLike, keys: AuditKeys, { retentionMs, maxEntries }: Retention, sentAt: number, instance: string, events: readonly AuditFields[]): Promise<Appended> {
  const declared = new Map([[keys.stream, 1], [keys.written(instance), 2]])
  const numberOf = (key: string): number => {
    let number = declared.get(key)
    if (number === undefined) declared.set(key, number = declared.size + 1)
    return number
  }
  const numbers = new Map<string, number>()
  const shapes: unknown[] = []
  const rows: unknown[] = []
  for (const fields of events) {
    const own = Object.keys(fields)
    const shape = own.join()
    if (!numbers.has(shape)) numbers.set(shape, shapes.push([own.indexOf('seq') + 1, ...own]))
    const { email, app } = fields
    const indexes = [email === undefined ? 0 : numberOf(keys.email(email)), app === undefined ? 0 : numberOf(keys.app(app))]
    rows.push([numbers.get(shape), ...indexes, ...Object.values(fields)])
  }
  const args = [sentAt, maxEntries, retentionMs, JSON.stringify([shapes, rows])]
  const [now, last, problem = '', keep, emails = [], apps = []] = await APPEND.run(redis, [...declared.keys()], args) as [string, string?, string?, string?, string[]?, string[]?]
  return { now: Number(now), last, excess: keep === undefined ? undefined : { keep, emails, apps }, problem }
}

/**
 * Removes what `append` found to be too many or too old, with its indexes; any number of times, by any instance.
 * @returns why something is still there; empty when all is well
 */
export async function trim (redis: RedisLike, keys: AuditKeys, { keep, emails, apps }: Excess): Promise<string> {
  const indexes = [...emails.map((email) => keys.email(email)), ...apps.map((app) => keys.app(app))]
  return await TRIM.run(redis, [keys.stream, ...indexes], [keep]) as string
}
