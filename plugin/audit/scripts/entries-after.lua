local GREATEST_ID = '18446744073709551615-18446744073709551615'

-- Entries of a stream after an id ('': the first ones). Nothing comes after the greatest id, which Redis takes for no start.
local function entriesAfter (stream, id, count)
  if id == GREATEST_ID then return {} end
  return redis.call('XRANGE', stream, id == '' and '-' or '(' .. id, '+', 'COUNT', count)
end
