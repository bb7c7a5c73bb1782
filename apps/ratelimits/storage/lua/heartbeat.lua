-- A process that serves says that it lives, and hears how many do.
--
-- KEYS  1 the hash of processes
-- ARGV  1 the process; 2 its status, JSON; 3 how long an unseen process counts, ms
-- Reply how many live, this one included
-- Hash  process -> '<last seen, us> <status>'; 'swept' -> when the lost were last dropped, us
-- TTL   when nobody says anything any more, all of them are lost at once
--
-- Redis' clock says who is late, since the processes' own clocks differ. The lost are dropped by
-- whoever comes first in each half second: were everyone to read everyone's status, a beat would
-- cost the more the more of them there are.

local key, lost_us = KEYS[1], tonumber(ARGV[3]) * 1000
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local now_text = string.format('%.0f', now)

redis.call('HSET', key, ARGV[1], now_text .. ' ' .. ARGV[2])
local swept = tonumber(redis.call('HGET', key, 'swept') or 0)
if math.abs(now - swept) >= 500000 then
  redis.call('HSET', key, 'swept', now_text)
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    if all[i] ~= 'swept' then
      local seen, status = string.match(all[i + 1], '^(%d+) (.*)$')
      if not seen or now - seen >= lost_us then
        redis.call('HDEL', key, all[i])
      elseif tonumber(seen) > now then
        -- The clock was set back, or another server took over: seen now at the latest.
        redis.call('HSET', key, all[i], now_text .. ' ' .. status)
      end
    end
  end
end
redis.call('PEXPIRE', key, ARGV[3])
return redis.call('HLEN', key) - 1
