-- Ways to call the queries.

local function answer (query, keys, args)
  refusal, notes = nil, {}
  local ok, reply = pcall(QUERIES[query], keys, args)
  if ok then
    for _, note in ipairs(notes) do reply[#reply + 1] = note end
    return reply
  end
  return redis.error_reply(refusal or 'ERR ' .. tostring(reply))
end

if redis.register_function then
  redis.register_function {
    function_name = 'tooljet_audit',
    callback = function (keys, args) return answer('tooljet_audit', keys, args) end,
    flags = { 'no-writes' },
  }
  redis.register_function {
    function_name = 'tooljet_audit_stats',
    callback = function (keys, args) return answer('tooljet_audit_stats', keys, args) end,
    flags = { 'no-writes' },
  }
  redis.register_function {
    function_name = 'tooljet_audit_version',
    callback = function () return VERSION end,
    flags = { 'no-writes' },
  }
else
  -- redis-cli --eval queries.lua tooljet-embed:audit , email E; with "stats" before the arguments the other query. Who
  -- has a Redis that insists on declared keys gives, after the stream, those of its index and counters.
  local keys = { KEYS[1] }
  for i = 2, #KEYS do
    if KEYS[i]:sub(1, #keyOf(KEYS[1], '')) ~= keyOf(KEYS[1], '') then keys[#keys + 1] = KEYS[i] end
  end
  if ARGV[1] ~= 'stats' then return answer('tooljet_audit', keys, ARGV) end
  return answer('tooljet_audit_stats', keys, { unpack(ARGV, 2) })
end
