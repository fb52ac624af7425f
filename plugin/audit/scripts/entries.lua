-- Entries of a stream, and their ids.

-- As redis.call; an error names the command: where a user lacks one, Redis does not say inside a script which it is.
local function ask (command, ...)
  local reply = redis.pcall(command, ...)
  if type(reply) == 'table' and reply.err then error(command .. ': ' .. reply.err, 0) end
  return reply
end

local GREATEST = '18446744073709551615'
local GREATEST_ID = GREATEST .. '-' .. GREATEST

-- The entries after an id ('': from the first on). After the greatest id there are none, and Redis accepts no start behind it.
local function entriesAfter (stream, id, count)
  if id == GREATEST_ID then return {} end
  return ask('XRANGE', stream, id == '' and '-' or '(' .. id, '+', 'COUNT', count)
end

local function idParts (id)
  local ms, number = id:match('^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(number)
end

-- How many answers an entry counts for.
local function countOf (count)
  return count and #count <= 15 and count:find('^%d+$') and tonumber(count) or 1
end
