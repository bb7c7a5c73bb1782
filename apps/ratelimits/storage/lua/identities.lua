-- Note who came to a limit in a period, and who of them has a count of its own there
-- (docs/decisions/0008-identity-budget.md).
--
-- KEYS  1 everyone who came, a HyperLogLog
--       2 those with a count of their own, another
--       3 the latter once more, as bits in which each can be found again (storage/known.py)
--       4 since when the limit is over its budget
-- ARGV  1 the budget, 2 for how long to keep all this, s
--       3 digests of those with a count of their own, 15 bytes each, one after another
--       4 digests of those who only came, likewise
-- Reply how many came and how many have a count of their own, estimated
--
-- Adding twice adds nothing, so that what was not answered may be sent again. Which layer of bits is
-- written depends on how many there are: here they are known, whoever else writes.

local DIGEST, FIRST, GROWTH, BITS, PROBES = 15, 4096, 4, 32, 6
local everyone, own, known, over = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local budget, keep_s = tonumber(ARGV[1]), ARGV[2]

local function digests(joined)
  local found = {}
  for at = 1, #joined, DIGEST do
    found[#found + 1] = string.sub(joined, at, at + DIGEST - 1)
  end
  return found
end

local function add(key, found)
  if #found > 0 then
    redis.call('PFADD', key, unpack(found))
    redis.call('EXPIRE', key, keep_s)
  end
end

local admitted = digests(ARGV[3])
if #admitted > 0 then
  local capacity, begin, most = FIRST, 0, FIRST
  local count = redis.call('PFCOUNT', own) + #admitted
  while count > most do
    begin = begin + capacity * BITS
    capacity = capacity * GROWTH
    most = most + capacity
  end
  local bits = capacity * BITS
  for _, digest in ipairs(admitted) do
    local first, step = struct.unpack('<I4I4', digest)
    step = step - step % 2 + 1
    for i = 0, PROBES - 1 do
      redis.call('SETBIT', known, begin + (first + i * step) % bits, 1)
    end
  end
  redis.call('EXPIRE', known, keep_s)
end
add(own, admitted)
add(everyone, admitted)
add(everyone, digests(ARGV[4]))

local came = redis.call('PFCOUNT', everyone)
if came > budget then
  redis.call('SET', over, redis.call('TIME')[1], 'NX')
  redis.call('EXPIRE', over, keep_s)
end
return {came, redis.call('PFCOUNT', own)}
