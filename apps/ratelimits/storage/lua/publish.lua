-- Install a compiled ruleset unless a newer one is there.
--
-- KEYS  1 the ruleset's hash
-- ARGV  1 version; 2 data
-- Reply 1 installed, 0 kept: racing publishers cannot bring back an older form.

local current = tonumber(redis.call('HGET', KEYS[1], 'version') or -1)
if current >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'data', ARGV[2])
-- Another birth tells every process that Redis had lost what it knew.
local t = redis.call('TIME')
redis.call('HSETNX', KEYS[1], 'born', t[1] .. '.' .. t[2])
return 1
