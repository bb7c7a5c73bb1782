-- Let what is older than the window leave a log, and the sum in the bucket with it.
--
-- KEYS  1 the log, 2 the bucket
-- ARGV  1 tag (limit id * 4), 2 epoch (modulo 2^16), 3 window us, 4 how many to let go at most
-- Reply how many entries left
--
-- As check.lua would at the next request: the sum of what has left is no longer in use. Both in
-- one go, or the sum would count for ever what the log no longer holds.

local log, bucket = KEYS[1], KEYS[2]
local tag, epoch, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local records, seen = read_bucket(call('GET', bucket))
local now, gone, units = math.max(clock(), seen), 0, 0
while gone < tonumber(ARGV[4]) do
  local first = call('LINDEX', log, gone)
  local t, n = string.match(first or '', '^(%d+):(%d+)$')
  if not t or tonumber(t) > now - window then break end
  gone, units = gone + 1, units + tonumber(n)
end
if gone == 0 then return 0 end
call('LPOP', log, gone)
local r = records[tag]
if r and r[1] == epoch then
  r[3] = math.max(0, r[3] - units)
  write_bucket(bucket, records, now)
end
return gone
