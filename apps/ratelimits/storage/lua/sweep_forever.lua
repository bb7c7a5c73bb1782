-- A key that would stay for ever gets a time to live; one that has one keeps it.
--
-- KEYS  1 the key
-- ARGV  1 for how long it can matter at most, ms
-- Reply 1 where it got one

if redis.call('PTTL', KEYS[1]) ~= -1 then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[1])
