-- Give back charges, each named so that it can never free more than was taken.
--
-- KEYS  the buckets (ARGV[1] of them), then the sidecars (logs) that charges name
-- ARGV  1 number of buckets; 2 the charges, 76 bytes each:
--         bucket (1: index in KEYS), sidecar (1: index in KEYS, 0 none), algorithm (1), unused (1),
--         id (4), epoch (4), then doubles: cost, window us, what names the charge (the arrival
--         time or window's start that it left; for a log, its time), and for a token bucket the
--         cost as us and remainder, the denominator, what had been given back before it, us, and
--         when it was charged, us
-- Reply how many were given back: not those that expired, or are of another window or epoch.

local nbuckets, plan = tonumber(ARGV[1]), ARGV[2]
local now = clock()
local buckets, touched, given = {}, {}, 0
for i = 1, nbuckets do
  local records, seen = read_bucket(redis.call('GET', KEYS[i]))
  buckets[i] = records
  if seen > now then now = seen end
end

local function give_back(r, algorithm, cost, window, named, whole, part, denominator, before,
  charged_us, sidecar)
  if algorithm == 1 then
    -- Of a charge only what has not refilled since is still there to be given back: what was
    -- given back meanwhile let it refill earlier. The record knows that for REFUNDED_US after its
    -- last write; a charge that is older could have been made in a record that is gone.
    local since = r[5] - before
    if since < 0 or now - charged_us >= REFUNDED_US then return false end
    local left = named - since - now
    if left <= 0 then return false end
    if left <= whole then whole, part = left, 0 end
    local a, b = r[3] - whole, r[4] - part
    if b < 0 then a, b = a - 1, b + denominator end
    local given_us = r[5] + whole + math.ceil(part / denominator)
    if given_us >= 2 ^ 40 then return false end -- the field is full
    r[3], r[4], r[5] = math.max(a, 0), math.max(b, 0), given_us
    r[2] = math.max(r[2], math.floor((now + REFUNDED_US) / 1000) + 1)
  elseif algorithm == 2 then
    if r[3] ~= named then return false end
    r[4] = math.max(0, r[4] - cost)
  elseif algorithm == 3 then
    if r[3] == named then r[4] = math.max(0, r[4] - cost)
    elseif r[3] == named + window then r[5] = math.max(0, r[5] - cost)
    else return false end
  elseif algorithm == 4 then
    local entry = string.format('%.0f:%.0f', named, cost)
    if redis.call('LREM', KEYS[sidecar], -1, entry) == 0 then return false end
    r[3] = math.max(0, r[3] - cost)
  else
    return false
  end
  return true
end

local SIZE = 76
for at = 1, #plan, SIZE do
  local bucket, sidecar, algorithm, _, id, epoch, cost, window, named, whole, part, denominator,
    before, charged_us =
    struct.unpack('<BBBBI4I4dddddddd', plan, at)
  local r = buckets[bucket][id]
  if r and r[1] == epoch % 65536 and
    give_back(r, algorithm, cost, window, named, whole, part, denominator, before, charged_us,
      sidecar) then
    touched[bucket], given = true, given + 1
  end
end
for i in pairs(touched) do write_bucket(KEYS[i], buckets[i], now) end
return given
