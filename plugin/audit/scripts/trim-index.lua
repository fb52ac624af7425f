-- Removes the records of trimmed entries from one bucket of an index, where they are an eighth of it or more.
--
-- KEYS: stream, index, bucket. ARGV: deadline. Reply: { time, how many records were taken out }
local RECORD = 14
local call, index, bucket = redis.call, KEYS[2], KEYS[3]
local length = call('STRLEN', bucket)
local oldest = call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local keepMs, keepNumber
if oldest then
  local ms, number = oldest[1]:match('^(%d+)-(%d+)$')
  keepMs, keepNumber = tonumber(ms), tonumber(number)
end

local function isOld (record)
  if not oldest then return true end
  local data = call('GETRANGE', bucket, record * RECORD, record * RECORD + RECORD - 1)
  local _, ms, number = struct.unpack('>I4I6I4', data)
  return ms < keepMs or (ms == keepMs and number < keepNumber)
end

-- the first one to keep: they are in the order of the stream
local low, high = 0, math.floor(length / RECORD)
local records = high
while low < high do
  local middle = math.floor((low + high) / 2)
  if isOld(middle) then low = middle + 1 else high = middle end
end
if low == 0 or (low < records and low * 8 < records) then return { at, 0 } end

local name = bucket:match('%a+:%d+$')
if call('HGET', index, name) == tostring(length) then call('HSET', index, name, length - low * RECORD) end
if low == records then
  call('DEL', bucket)
else
  call('SET', bucket, call('GETRANGE', bucket, low * RECORD, -1))
end
return { at, low }
