-- Decide and charge every limit of a request at once: all of the enforcing ones, or none.
--
-- KEYS  the buckets (ARGV[1] of them), then the sidecars (logs and slots) that limits name
-- ARGV  1 number of buckets; 2 '1' to charge, '0' to look only; 3 the limits, 84 bytes each:
--         bucket (1: index in KEYS), sidecar (1: index in KEYS, 0 none), algorithm (1),
--         flags (1: 1 enforce, 2 charge denials), id (4), epoch (4), then doubles: cost,
--         quota, window us, block us, p1..p5
--       4 the member that stands for this request in concurrency sets
-- token_bucket: p1, p2 cost as us and remainder; p3 denominator; p4, p5 burst likewise
-- sliding_window: p1 step in which the window ages, us
-- Reply {allowed, now us, then per limit: ok, a, b, c}: the state after the verdict. ok is 1
--       allowed, 0 denied, else denied and blocked until that time, us.
--
-- The clock is the server's, read once: clients' clocks differ. It is the largest time that any
-- of the buckets has seen, so that a step backwards frees nothing. A denied request writes
-- nothing, unless the limit that denies it charges denials or begins a block. A block is a record
-- of its own, under the limit's id + 2^31, whose a is its end. Integers stay below 2^53 because
-- policy/rules.py refuses a rate that could exceed it.

local nbuckets, charge, plan = tonumber(ARGV[1]), ARGV[2] == '1', ARGV[3]
local now = clock()
local buckets = {}

-- Enter a denial in a log, and let as many of the oldest units leave as are over the quota.
-- The quota is full then. Returns when the same cost would fit. Ends early where the log holds
-- less than the bucket says, as after somebody cut it by hand.
local function charge_log(key, dropped, over, now, cost, window)
  if dropped > 0 then redis.call('LPOP', key, dropped) end
  redis.call('RPUSH', key, string.format('%.0f:%.0f', now, cost))
  redis.call('PEXPIRE', key, string.format('%.0f', math.ceil(window / 1000)))
  while over > 0 do
    local entry = redis.call('LINDEX', key, 0)
    if not entry then break end
    local t, units = string.match(entry, '^(%d+):(%d+)$')
    if tonumber(units) > over then
      redis.call('LSET', key, 0, string.format('%s:%.0f', t, units - over))
    else
      redis.call('LPOP', key)
    end
    over = over - math.min(over, tonumber(units))
  end
  -- The quota is full: the cost fits when so many units have left.
  local free, look, at = 0, 0, 0
  while free < cost do
    local entry = redis.call('LINDEX', key, at)
    if not entry then break end
    local t, units = string.match(entry, '^(%d+):(%d+)$')
    free, look, at = free + tonumber(units), tonumber(t) + window, at + 1
  end
  return look
end

for i = 1, nbuckets do
  local records, seen = read_bucket(redis.call('GET', KEYS[i]))
  buckets[i] = records
  if seen > now then now = seen end
end

local SIZE, BLOCK = 84, 2147483648
local limits, reply, touched, allowed = {}, {1, now}, {}, true
for at = 1, #plan, SIZE do
  local bucket, sidecar, algorithm, flags, id, epoch, cost, quota, window, block, p1, p2, p3,
    p4, p5 = struct.unpack('<BBBBI4I4ddddddddd', plan, at)
  epoch = epoch % 65536
  local old = buckets[bucket][id]
  if old and old[1] ~= epoch then old = nil end
  local ok, a, b, c, na, nb, nc, expiry

  if algorithm == 1 then -- token_bucket: GCRA
    a, b, c = 0, 0, 0
    if old then a, b, c = old[3], old[4], old[5] end
    if a < now then a, b = now, 0 end
    na, nb, nc = a + p1, b + p2, c
    if nb >= p3 then
      local carry = math.floor(nb / p3)
      na, nb = na + carry, nb - carry * p3
    end
    ok = na < now + p4 or (na == now + p4 and nb <= p5)
    expiry = c > 0 and math.max(na + 1, now + REFUNDED_US) or na + 1
  elseif algorithm == 2 then -- fixed_window
    a, b, c = now - now % window, 0, 0
    if old and old[3] == a then b = old[4] end
    na, nb, nc = a, b + cost, 0
    ok = nb <= quota
    expiry = a + window
  elseif algorithm == 3 then -- sliding_window: the last one weighed by what of it still counts
    a, b, c = now - now % window, 0, 0
    if old then
      if old[3] == a then b, c = old[4], old[5]
      elseif old[3] == a - window then c = old[4] end
    end
    local span = window / p1
    na, nb, nc = a, b + cost, c
    ok = c * (span - math.floor((now - a) / p1)) <= (quota - nb) * span
    expiry = a + 2 * window
  elseif algorithm == 4 then -- sliding_log: a list of 'time:cost', oldest first; a is their sum
    local key = KEYS[sidecar]
    a, b, c = 0, 0, 0
    -- The log is the truth: where it went (evicted), nothing is in use; where only the bucket
    -- went, its sum is made again.
    local first = redis.call('LINDEX', key, 0)
    if first and old then
      a = old[3]
    elseif first then
      for _, entry in ipairs(redis.call('LRANGE', key, 0, -1)) do
        a = a + tonumber(string.match(entry, ':(%d+)$'))
      end
    end
    local dropped = 0
    while first do
      local t, units = string.match(first, '^(%d+):(%d+)$')
      t = tonumber(t)
      if t > now - window then b = t + window break end
      a = a - tonumber(units)
      dropped = dropped + 1
      first = redis.call('LINDEX', key, dropped)
    end
    if a < 0 or not first then a = 0 end
    na, nb, nc = a + cost, b, 0
    ok = na <= quota
    if ok then
      if nb == 0 then nb = now + window end
    else -- when enough of the oldest have left
      local free, at_index = quota - a, dropped
      while free < cost do
        local entry = redis.call('LINDEX', key, at_index)
        if not entry then break end
        local t, units = string.match(entry, '^(%d+):(%d+)$')
        free = free + tonumber(units)
        b = tonumber(t) + window
        at_index = at_index + 1
      end
    end
    expiry = now + window
    old = {dropped = dropped}
  else -- concurrency: a sorted set of members by the end of their lease
    local key = KEYS[sidecar]
    local floor = string.format('%.0f', now)
    a = redis.call('ZCOUNT', key, '(' .. floor, '+inf')
    local head = redis.call('ZRANGEBYSCORE', key, '(' .. floor, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    b, c = head[2] and tonumber(head[2]) or 0, 0
    ok = a + cost <= quota
    na, nb, nc = a + cost, b, 0
    if nb == 0 then nb = now + window end
    expiry = 0
  end

  local blocked = buckets[bucket][id + BLOCK]
  blocked = blocked and blocked[1] == epoch and blocked[3] > now and blocked[3] or 0
  if blocked > 0 then
    ok = false
  elseif not ok and charge then
    if flags >= 2 then -- what is left, never more
      na, nb, nc = a, math.max(b, math.min(quota, b + cost)), c
      if algorithm == 1 then
        na, nb = a, b
        if a < now + p4 or (a == now + p4 and b < p5) then na, nb = now + p4, p5 end
        expiry = c > 0 and math.max(na + 1, now + REFUNDED_US) or na + 1
      elseif algorithm == 4 then
        na, nc = quota, 0
        nb = charge_log(KEYS[sidecar], old.dropped, a + cost - quota, now, cost, window)
      end
      a, b, c = na, nb, nc
      if algorithm == 4 then nb = 0 end
      buckets[bucket][id] = {epoch, math.floor(expiry / 1000) + 1, na, nb, nc}
      touched[bucket] = true
    end
    if block > 0 then
      blocked = now + block
      buckets[bucket][id + BLOCK] = {epoch, math.floor(blocked / 1000) + 1, blocked, 0, 0}
      touched[bucket] = true
    end
  end

  if flags % 2 == 1 and not ok then allowed = false end
  limits[#limits + 1] = {bucket, sidecar, algorithm, id, epoch, ok, a, b, c, na, nb, nc, expiry,
    cost, window, old, blocked}
end

for i = 1, #limits do
  local l = limits[i]
  local bucket, sidecar, algorithm, ok = l[1], l[2], l[3], l[6]
  local a, b, c = l[7], l[8], l[9]
  if allowed and ok and charge then
    a, b, c = l[10], l[11], l[12]
    if algorithm == 5 then
      local key = KEYS[sidecar]
      redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now))
      redis.call('ZADD', key, string.format('%.0f', now + l[15]), ARGV[4])
      redis.call('PEXPIRE', key, string.format('%.0f', math.ceil(l[15] / 1000)))
    else
      if algorithm == 4 then
        local key = KEYS[sidecar]
        if l[16].dropped > 0 then redis.call('LPOP', key, l[16].dropped) end
        redis.call('RPUSH', key, string.format('%.0f:%.0f', now, l[14]))
        redis.call('PEXPIRE', key, string.format('%.0f', math.ceil(l[15] / 1000)))
        buckets[bucket][l[4]] = {l[5], math.floor(l[13] / 1000) + 1, a, 0, 0}
      else
        buckets[bucket][l[4]] = {l[5], math.floor(l[13] / 1000) + 1, a, b, c}
      end
      touched[bucket] = true
    end
  end
  local at = #reply
  reply[at + 1], reply[at + 2], reply[at + 3], reply[at + 4] = ok and 1 or l[17], a, b, c
end
for i in pairs(touched) do write_bucket(KEYS[i], buckets[i], now) end
reply[1] = allowed and 1 or 0
return reply
