-- The processes that were heard of, for people: by the clock of the server that holds them.
--
-- KEYS  1 the hash of processes (heartbeat.lua)
-- Reply {seconds, microseconds}, then process, row, process, row, ...

local found = redis.call('HGETALL', KEYS[1])
table.insert(found, 1, redis.call('TIME'))
return found
