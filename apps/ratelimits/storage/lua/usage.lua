-- Adds what a process has counted to the totals of all, once however often it is sent.
--
-- KEYS  1 the hash of totals
-- ARGV  1 the process; 2 the number of this batch, one more than its last;
--       3 for how long a process that says nothing is remembered, s;
--       then field, increment, field, increment, ...
-- Reply 1, or 0 where this batch had been added before
-- Hash  'since' -> when these totals began, us; field -> total;
--       'p:<process>' -> '<its last batch> <when, s>'; 'swept' -> when old processes were dropped, s
-- TTL   none: totals go on for as long as the server keeps them
--
-- A reply that never came leaves a doubt whether the batch was added: its process sends the same
-- batch again under the same number. HMGET and HSET instead of HINCRBY: two calls for all fields,
-- and no right that the other scripts do not need. Totals stay below 2^53, where doubles are exact.

local key, call = KEYS[1], redis.call
local t = call('TIME')
local now = tonumber(t[1])
local mine = 'p:' .. ARGV[1]

call('HSETNX', key, 'since', string.format('%.0f', t[1] * 1000000 + t[2]))
local last = string.match(call('HGET', key, mine) or '', '^%d+')
call('HSET', key, mine, ARGV[2] .. ' ' .. t[1])

-- Whoever comes first in a while drops those that have ended.
local kept = tonumber(ARGV[3])
local swept = tonumber(call('HGET', key, 'swept') or 0)
if math.abs(now - swept) >= kept / 4 then
  call('HSET', key, 'swept', t[1])
  local all = call('HGETALL', key)
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == 'p:' then
      local seen = tonumber(string.match(all[i + 1], ' (%d+)$') or 0)
      if math.abs(now - seen) >= kept then call('HDEL', key, all[i]) end
    end
  end
end

if last and tonumber(last) >= tonumber(ARGV[2]) then return 0 end

-- In parts: unpack takes so many at a time, and no more.
for from = 4, #ARGV, 2000 do
  local fields, upto = {}, math.min(from + 1999, #ARGV)
  for i = from, upto, 2 do fields[#fields + 1] = ARGV[i] end
  local totals, changed = call('HMGET', key, unpack(fields)), {}
  for i, field in ipairs(fields) do
    local total = (tonumber(totals[i] or 0) or 0) + tonumber(ARGV[from + 2 * i - 1])
    changed[2 * i - 1], changed[2 * i] = field, string.format('%.0f', total)
  end
  call('HSET', key, unpack(changed))
end
return 1
