-- Appends one instance's events in order, each once, with their indexes. In an index an entry has the id of an event,
-- and in its field `ids` those of further ones of the same batch. All events are one argument: most of the cost of a
-- script is in their number. An event is its values only, the names of its fields are sent once for all events that
-- have the same ones. What is too much or too old is only named here: its indexes are known by its entries alone, and
-- a script touches no key that it does not declare.
--
-- KEYS: stream, written, and the indexes of the events, each once.
-- ARGV: time in ms at which this was sent, most entries (0: any number), longest age in ms (0: any age), and JSON: a
--       list of shapes, each of which of its fields is seq and their names, and a list of events, each of the number
--       of its shape, the numbers of its e-mail's and its app's index among the KEYS (0: none), and its values.
-- Returns Redis's time in ms, the id of the last event appended, and why it could not look for what is too much; then,
-- where there is something, the id of the oldest entry to keep and the e-mails and apps of those before it. Or the time
-- alone when it came too late.

-- How long Redis remembers what an instance has written: longer than a batch can be under way.
local WRITTEN_MS = 20000
-- A batch that arrives later than this after it was sent is refused, and looked for before it is sent again.
local LATEST_MS = 10000
-- Entries are trimmed when there are so many too many, or when the oldest is so much too old; and so many at once.
local SPARE_ENTRIES = 100
local SPARE_MS = 3600000
local TRIM_AT_MOST = 160

local call, stream = redis.call, KEYS[1]
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if math.abs(now - ARGV[1]) > LATEST_MS then return { string.format('%.0f', now) } end

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
call('SET', KEYS[2], string.format('%.0f', written), 'PX', WRITTEN_MS)

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
  if excess < SPARE_ENTRIES then excess = 0 end
  local latest = longest > 0 and now - longest or 0
  local function ms (entry) return tonumber(entry[1]:match('%d+')) end
  local oldest = latest > 0 and call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if excess == 0 and not (oldest and ms(oldest) < latest - SPARE_MS) then return nil end

  local entries = call('XRANGE', stream, '-', '+', 'COUNT', TRIM_AT_MOST + 1)
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
