-- Keep a batch of records of requests, and let go of the oldest, so that the stream stays bounded.
--
-- KEYS  1 the stream
--       2 the weight of all that was ever put there
-- ARGV  1 this batch's weight
--       2 the most that the stream may weigh
--       3 how long a batch is kept, ms
--       4 the number of its records
--       5 the batch, packed (storage/traffic.py)
-- Reply: the weight of all that was ever put there.
--
-- Each entry says where it begins on the line of all weights (`from`), so that what the stream
-- weighs is known without looking at all of it. Where the count was lost, the line begins anew:
-- entries that lie beyond its end are of an older one, and go. XADD trims, once: what is let go of
-- is looked for first.

local call = redis.call
local weight, most, kept_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = call('TIME')
local oldest_ms = time[1] * 1000 + math.floor(time[2] / 1000) - kept_ms
local upto = call('INCRBY', KEYS[2], ARGV[1])
local least = string.format('%.0f', oldest_ms)
local after = '-'
for _ = 1, 100 do
  local found = call('XRANGE', KEYS[1], after, '+', 'COUNT', 1)[1]
  if not found then break end
  local id, from = found[1], tonumber(found[2][2])
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  if tonumber(ms) >= oldest_ms then
    if from < upto and upto - from <= most then break end
    -- Of this one nothing stays: whatever comes after it may.
    least = string.format('%s-%.0f', ms, seq + 1)
  end
  after = '(' .. id
end
call('XADD', KEYS[1], 'MINID', '=', least, '*',
  'from', string.format('%.0f', upto - weight), 'n', ARGV[4], 'data', ARGV[5])
call('PEXPIRE', KEYS[1], kept_ms)
call('PEXPIRE', KEYS[2], kept_ms)
return upto
