-- Decide and charge every limit of a request at once: all of the enforcing ones, or none.
--
-- KEYS  the buckets, then the sidecars (logs and slots) that limits name
-- ARGV  1 the plan: number of buckets (1 byte), 0 to look only, 1 to charge, 2 to charge limits
--         that are all plain (1 byte), then each limit, in the order of buckets and tags: algorithm, bucket (index in KEYS), sidecar (likewise, 0 none), flags (1 enforce,
--         2 charge denials, 4 block, 8 lease), tag (4: limit id * 4), epoch (2), then doubles:
--         token_bucket    cost as us and remainder, denominator, burst as us and remainder
--         others          cost, quota, window us; sliding_window: step in which it ages, us
--         lease           requests to take at most, parts into which what is free is shared
--         block           us
--         and at the end 50 zeros
--       2 the member that stands for this request in concurrency sets
-- Reply where quick.lua did it all, the buckets as it wrote them; else
--       {allowed, now us, then per limit: ok, a, b, c}: the state after the verdict. ok is 1
--       allowed, 0 denied, else denied and blocked until that time, us. a, b, c are those of
--       policy/algorithms.py; of a lease, c is the units that were taken.
--
-- The clock is the server's, read once: clients' clocks differ. It is the largest time that any
-- of the buckets has seen, so that a step backwards frees nothing. A denied request writes
-- nothing, unless the limit that denies it charges denials or begins a block. Integers stay below
-- 2^53 because policy/rules.py refuses a rate that could exceed it.
--
-- The limits are gone through once as if all allowed, and again where one did not: nothing is
-- written before the end.

charge = charge > 0
local now = clock()
local buckets = {}
for i = 1, nbuckets do
  local records, seen = read_bucket(call('GET', KEYS[i]))
  buckets[i] = records
  if seen > now then now = seen end
end

local function parse(entry)
  local t, units = string.match(entry, '^(%d+):(%d+)$')
  return tonumber(t), tonumber(units)
end

-- The units of a log, how many entries have left it, and when it is to be looked at again: when
-- the oldest leaves, or when the cost fits. A list of 'time:cost', oldest first.
local function read_log(key, known, cost, quota, window)
  local used, dropped, look = 0, 0, 0
  -- The log is the truth: where it went (evicted), nothing is in use; where only the bucket
  -- went, its sum is made again.
  local first = call('LINDEX', key, 0)
  if first and known then
    used = known
  elseif first then
    for _, entry in ipairs(call('LRANGE', key, 0, -1)) do
      local _, units = parse(entry)
      used = used + units
    end
  end
  while first do
    local t, units = parse(first)
    if t > now - window then look = t + window break end
    used = used - units
    dropped = dropped + 1
    first = call('LINDEX', key, dropped)
  end
  if used < 0 or not first then used = 0 end
  if used + cost > quota then
    local free, at = quota - used, dropped
    while free < cost do
      local entry = call('LINDEX', key, at)
      if not entry then break end
      local t, units = parse(entry)
      free, look, at = free + units, t + window, at + 1
    end
  end
  return used, dropped, look
end

local function enter_log(key, dropped, cost, window)
  if dropped > 0 then call('LPOP', key, dropped) end
  call('RPUSH', key, string.format('%.0f:%.0f', now, cost))
  call('PEXPIRE', key, math.ceil(window / 1000))
end

-- Enter a denial in a log, and let as many of the oldest units leave as are over the quota. The
-- quota is full then. Returns when the same cost would fit. Ends early where the log holds less
-- than the bucket says, as after somebody cut it by hand.
local function charge_log(key, dropped, over, cost, window)
  enter_log(key, dropped, cost, window)
  while over > 0 do
    local entry = call('LINDEX', key, 0)
    if not entry then break end
    local t, units = parse(entry)
    if units > over then
      call('LSET', key, 0, string.format('%.0f:%.0f', t, units - over))
    else
      call('LPOP', key)
    end
    over = over - math.min(over, units)
  end
  local free, look, at = 0, 0, 0
  while free < cost do
    local entry = call('LINDEX', key, at)
    if not entry then break end
    local t, units = parse(entry)
    free, look, at = free + units, t + window, at + 1
  end
  return look
end

local function take_slot(key, window)
  call('ZREMRANGEBYSCORE', key, '-inf', now)
  call('ZADD', key, now + window, ARGV[2])
  call('PEXPIRE', key, math.ceil(window / 1000))
end

-- For how many requests a leased plan is charged: as many as each of its limits, all of them fixed
-- windows, has a share of.
local function leased_requests()
  local most, at = nil, 3
  while string.byte(plan, at) ~= 0 do
    local bucket, tag, epoch, cost, quota, window, lease, share
    bucket, tag, epoch, cost, quota, window, lease, share, at =
      unpack('<xBxxI4I2ddddd', plan, at)
    local old, used = buckets[bucket][tag], 0
    if old and old[1] == epoch and old[2] == now - now % window + window then used = old[3] end
    local requests = math.min(lease, floor((quota - used) / share / cost))
    if not most or requests < most then most = requests end
  end
  return math.max(1, most)
end

-- One limit after the other. Returns the reply, and what is left to do: records to put into
-- buckets as {bucket, tag, record}, and functions that write elsewhere.
local function decide(taking)
  local reply, records, writes, n, allowed, requests = {1, now}, {}, {}, 2, true, nil
  local at = 3
  while true do
    local algorithm = string.byte(plan, at)
    if algorithm == 0 then break end
    local bucket, sidecar, flags, tag, epoch, p1, p2, p3, p4, p5
    if algorithm == 1 then
      bucket, sidecar, flags, tag, epoch, p1, p2, p3, p4, p5, at =
        unpack('<BBBI4I2ddddd', plan, at + 1)
    elseif algorithm == 3 then
      bucket, sidecar, flags, tag, epoch, p1, p2, p3, p4, at = unpack('<BBBI4I2dddd', plan, at + 1)
    else
      bucket, sidecar, flags, tag, epoch, p1, p2, p3, at = unpack('<BBBI4I2ddd', plan, at + 1)
    end
    local lease, block, _
    if flags >= 8 then lease, _, at = unpack('<dd', plan, at) end
    if flags % 8 >= 4 then block, at = unpack('<d', plan, at) end

    local known = buckets[bucket]
    local old = known[tag]
    if old and old[1] ~= epoch then old = nil end
    -- The state as it is, as it is when charged, and the record of the latter.
    local ok, a, b, c, na, nb, nc, ends, n1, n2, dropped = false, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    if algorithm == 1 then -- token_bucket: GCRA
      if old and old[2] >= now then a, b = old[2], old[3] else a = now end
      if b >= p3 then a, b = a + 1, 0 end -- of the rate before an edit
      local given = known[tag + 2]
      if given and given[1] == epoch and given[2] > now then c = given[3] end
      na, nb, nc = a + p1, b + p2, c
      if nb >= p3 then na, nb = na + 1, nb - p3 end
      ok = na < now + p4 or (na == now + p4 and nb <= p5)
      ends, n1 = na, nb
    elseif algorithm == 2 then -- fixed_window
      a = now - now % p3
      if old and old[2] == a + p3 then b = old[3] end
      if lease then
        requests = requests or leased_requests()
        nc = p1 * requests
      end
      na, nb = a, b + (lease and nc or p1)
      ok = nb <= p2
      ends, n1 = a + p3, nb
    elseif algorithm == 3 then -- sliding_window: the last one weighed by what of it still counts
      a = now - now % p3
      if old then
        if old[2] == a + 2 * p3 then b, c = old[3], old[4]
        elseif old[2] == a + p3 then c = old[3] end
      end
      local span = p3 / p4
      na, nb, nc = a, b + p1, c
      ok = c * (span - floor((now - a) / p4)) <= (p2 - nb) * span
      ends, n1, n2 = a + 2 * p3, nb, nc
    elseif algorithm == 4 then -- sliding_log: a is the units in it
      a, dropped, b = read_log(KEYS[sidecar], old and old[3], p1, p2, p3)
      na, nb = a + p1, b == 0 and now + p3 or b
      ok = na <= p2
      ends, n1 = now + p3, na
    else -- concurrency: a sorted set of members by the end of their lease
      local key = KEYS[sidecar]
      local since = string.format('(%.0f', now)
      a = call('ZCOUNT', key, since, '+inf')
      local first = call('ZRANGEBYSCORE', key, since, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
      b = first and tonumber(first) or 0
      na, nb = a + p1, b == 0 and now + p3 or b
      ok = na <= p2
    end

    local blocked = block and known[tag + 1]
    blocked = blocked and blocked[1] == epoch and blocked[2] > now and blocked[2] or 0
    if blocked > 0 then ok = false end
    if ok then
      if taking then
        a, b, c = na, nb, nc
        if algorithm == 4 then
          local gone = dropped
          writes[#writes + 1] = function() enter_log(KEYS[sidecar], gone, p1, p3) end
        end
        if algorithm == 5 then
          writes[#writes + 1] = function() take_slot(KEYS[sidecar], p3) end
        else
          records[#records + 1] = {bucket, tag, {epoch, ends, n1, n2}}
          if algorithm == 1 and c > 0 then -- known for as long as this charge can be given back
            local given = known[tag + 2]
            records[#records + 1] = {bucket, tag + 2, {epoch, now + REFUNDED_US, c, given[4]}}
          end
        end
      end
    else
      if flags % 2 == 1 then allowed = false end
      if blocked == 0 and charge then
        if flags % 4 >= 2 then -- a denial takes what is left, never more
          if algorithm == 1 then
            if a < now + p4 or (a == now + p4 and b < p5) then a, b = now + p4, p5 end
            ends, n1 = a, b
          elseif algorithm == 4 then
            local gone, over, place = dropped, a + p1 - p2, n + 3
            writes[#writes + 1] = function()
              reply[place] = charge_log(KEYS[sidecar], gone, over, p1, p3)
            end
            a, n1 = p2, p2
          else
            b = math.max(b, math.min(p2, b + p1))
            n1, n2 = b, c
          end
          records[#records + 1] = {bucket, tag, {epoch, ends, n1, n2}}
        end
        if block then
          blocked = now + block
          records[#records + 1] = {bucket, tag + 1, {epoch, blocked, 0, 0}}
        end
      end
      if taking and not allowed then return nil end
    end
    reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = ok and 1 or blocked, a, b, c
    n = n + 4
  end
  reply[1] = allowed and 1 or 0
  return reply, records, writes
end

local reply, records, writes
if charge then reply, records, writes = decide(true) end
if not reply then reply, records, writes = decide(false) end
local touched = {}
for i = 1, #records do
  local r = records[i]
  local bucket = r[1]
  buckets[bucket][r[2]] = r[3]
  touched[bucket] = true
end
for bucket in pairs(touched) do write_bucket(KEYS[bucket], buckets[bucket], now) end
for i = 1, #writes do writes[i]() end
return reply
