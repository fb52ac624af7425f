-- Reads a part of a stream, of bounded size whatever is in it.
--
-- KEYS: stream. ARGV: deadline, id after which it begins ('': the start).
-- Reply: { time, id of the last entry that was read, 1 at the end of the stream, ids, fields and values of each as a list in
--          JSON }. An entry larger than any event has its size only.
local MOST_ENTRIES, MOST_BYTES = 500, 1048576
local AT_ONCE = 10 -- they are copied before their size is known
local LARGEST = 32768

local stream, last = KEYS[1], ARGV[2]
local ids, texts, bytes = {}, {}, 0
while true do
  local entries = redis.call('XRANGE', stream, last == '' and '-' or '(' .. last, '+', 'COUNT', AT_ONCE)
  for _, entry in ipairs(entries) do
    local fields, size = entry[2], 0
    for i = 1, #fields do size = size + #fields[i] end
    if size > LARGEST then fields = { 'larger than any event', string.format('%.0f', size) } end
    last = entry[1]
    ids[#ids + 1], texts[#texts + 1] = last, cjson.encode(fields)
    bytes = bytes + size
  end
  if #entries < AT_ONCE or last == '18446744073709551615-18446744073709551615' then return { at, last, 1, ids, texts } end
  if #ids >= MOST_ENTRIES or bytes >= MOST_BYTES then return { at, last, 0, ids, texts } end
end
