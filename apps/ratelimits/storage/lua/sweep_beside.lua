-- Remove a log, or a set of slots, of a limit that is gone, unless it has been written meanwhile.
--
-- KEYS  1 the log or the slots
-- ARGV  1 'log' or 'slots'; 2 how many it held, and 3 the newest of them, as it was read
-- Reply 1 removed; 0 it is another by now
--
-- What comes is put last, in both, and no two of it are the same: number and last one tell.

local key, held, newest = KEYS[1]
if ARGV[1] == 'log' then
  held, newest = redis.call('LLEN', key), redis.call('LINDEX', key, -1)
else
  held, newest = redis.call('ZCARD', key), redis.call('ZRANGE', key, -1, -1)[1]
end
if held ~= tonumber(ARGV[2]) or newest ~= ARGV[3] then return 0 end
return redis.call('UNLINK', key)
