-- Searches a part of the stream for events by their macs; replies with their positions only.
--
-- KEYS: stream. ARGV: deadline, id after which it begins, macs in the order of the events.
-- Reply: { time, number of the last event that is there (0: none), its id, id up to which it has looked, 1 at the end of the
--          stream }
local MOST_ENTRIES, MOST_BYTES = 1000, 4194304
local AT_ONCE = 10 -- they are copied before their size is known

local wanted, place, id, after, looked, bytes = {}, 0, '', ARGV[2], 0, 0
for i = 3, #ARGV do wanted[ARGV[i]] = i - 2 end
while true do
  local entries = entriesAfter(KEYS[1], after, AT_ONCE)
  for _, entry in ipairs(entries) do
    local fields = entry[2]
    after, looked = entry[1], looked + 1
    for i = 1, #fields do
      bytes = bytes + #fields[i]
      local found = i % 2 == 0 and fields[i - 1] == 'mac' and wanted[fields[i]]
      if found and found > place then place, id = found, after end
    end
  end
  local isEnd = #entries < AT_ONCE
  if isEnd or looked >= MOST_ENTRIES or bytes >= MOST_BYTES then return { at, place, id, after, isEnd and 1 or 0 } end
end
