-- Give back charges, each named so that it can never free more than was taken.
--
-- KEYS  the buckets, then the sidecars (logs) that charges name
-- ARGV  1 the plan: number of buckets (1 byte), then each charge: algorithm, bucket (index in
--         KEYS), sidecar (likewise, 0 none), a byte unused, tag (4), epoch (2), then doubles: cost,
--         window us, what names the charge (the arrival time or window's start that it left; for
--         a log, its time), and for a token bucket the cost as us and remainder, the denominator,
--         what had been given back before it, us, and when it was charged, us
-- Reply how many were given back: not those that ended, or are of another window or epoch.

local plan = ARGV[1]
local nbuckets = string.byte(plan, 1)
local now = clock()
local buckets, touched, given = {}, {}, 0
for i = 1, nbuckets do
  local records, seen = read_bucket(call('GET', KEYS[i]))
  buckets[i] = records
  if seen > now then now = seen end
end

-- Of a token bucket's charge only what has not refilled since is still there to be given back.
-- What was given back meanwhile let it refill earlier: the sum of that stands in a record of its
-- own, for REFUNDED_US after the last charge. An older charge could have been made in a record
-- that is gone. Where the sum would grow too large it begins anew, and with it what can be given
-- back: n2 is the second from which on charges are.
local function refill(records, tag, epoch, named, whole, part, denominator, before, charged_us)
  local r, known = records[tag], records[tag + 2]
  local sum, since_s = 0, 0
  if known and known[1] == epoch and known[2] > now then sum, since_s = known[3], known[4] end
  local since = sum - before
  if since < 0 or now - charged_us >= REFUNDED_US or charged_us < since_s * 1000000 then
    return false
  end
  local left = named - since - now
  if left <= 0 then return false end
  if left <= whole then whole, part = left, 0 end
  local a, b = r[2] - whole, r[3] - part
  if b < 0 then a, b = a - 1, b + denominator end
  r[2], r[3] = math.max(a, 0), b
  sum = sum + whole + math.ceil(part / denominator)
  if sum >= 2 ^ 52 then sum, since_s = 0, math.ceil(now / 1000000) + 1 end
  records[tag + 2] = {epoch, now + REFUNDED_US, sum, since_s}
  return true
end

local function give_back(algorithm, records, sidecar, tag, epoch, cost, window, named, ...)
  local r = records[tag]
  if not r or r[1] ~= epoch then return false end
  if algorithm == 1 then
    return refill(records, tag, epoch, named, ...)
  elseif algorithm == 2 then
    if r[2] ~= named + window then return false end
    r[3] = math.max(0, r[3] - cost)
  elseif algorithm == 3 then
    if r[2] == named + 2 * window then r[3] = math.max(0, r[3] - cost)
    elseif r[2] == named + 3 * window then r[4] = math.max(0, r[4] - cost)
    else return false end
  elseif algorithm == 4 then
    if call('LREM', KEYS[sidecar], -1, string.format('%.0f:%.0f', named, cost)) == 0 then
      return false
    end
    r[3] = math.max(0, r[3] - cost)
  else
    return false
  end
  return true
end

for at = 2, #plan, 74 do
  local algorithm, bucket, sidecar, _, tag, epoch, cost, window, named, whole, part, denominator,
    before, charged_us = unpack('<BBBBI4I2dddddddd', plan, at)
  if give_back(algorithm, buckets[bucket], sidecar, tag, epoch, cost, window, named, whole, part,
    denominator, before, charged_us) then
    touched[bucket], given = true, given + 1
  end
end
for i in pairs(touched) do write_bucket(KEYS[i], buckets[i], now) end
return given
