-- Reads a part of a stream, of bounded size whatever is in it.
--
-- KEYS: stream. ARGV: deadline, id after which it begins ('': the start).
-- Reply: { time, id of the last entry that was read, 1 at the end of the stream, ids with ' ' between, fields and values of
--          each as a list in JSON, in lines, 1 where these begin with the stream's first entry }. An entry larger than any
--          event has its size only.
local MOST_ENTRIES, MOST_BYTES = 100, 131072
local AT_ONCE = 10 -- they are copied before their size is known
-- An event has fewer fields, and takes less.
local MOST_TEXTS, LARGEST = 64, 16384

local stream, last = KEYS[1], ARGV[2]
local first = ask('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
local ids, lines, bytes, isEnd = {}, {}, 0, false
repeat
  local entries = entriesAfter(stream, last, AT_ONCE)
  for _, entry in ipairs(entries) do
    local fields, size = entry[2], 0
    for i = 1, #fields do size = size + #fields[i] end
    if #fields > MOST_TEXTS or size > LARGEST then fields = { 'larger than any event', string.format('%.0f', size) } end
    last = entry[1]
    local line = cjson.encode(fields)
    ids[#ids + 1], lines[#lines + 1], bytes = last, line, bytes + math.max(size, #line)
  end
  isEnd = #entries < AT_ONCE
until isEnd or #ids >= MOST_ENTRIES or bytes >= MOST_BYTES
return { at, last, isEnd and 1 or 0, table.concat(ids, ' '), table.concat(lines, '\n'), first and first[1] == ids[1] and 1 or 0 }
