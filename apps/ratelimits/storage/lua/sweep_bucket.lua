-- Leave of a bucket what still matters, unless somebody has written it meanwhile.
--
-- KEYS  1 the bucket
-- ARGV  1 the bucket as it was read; 2 what stays of it, empty for nothing; 3 until when, ms
-- Reply 1 done; 0 it is another by now: the next sweep looks again
--
-- Compared as a whole: a charge that came after the reading changes the bucket, and is never lost.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then
  redis.call('UNLINK', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
end
return 1
