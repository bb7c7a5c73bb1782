-- The first part of check.lua, for the checks that are most: plain limits that all allow.
--
-- It takes the same plan, whose second byte is 2 where all limits are plain: token_bucket,
-- fixed_window or sliding_window, every request counted as it comes, without block or lease. It
-- walks the plan and the stored records side by side, both in the order of tags, and writes the
-- bucket anew as it goes. Where all allow, the reply is the bucket as it was written, or a list of
-- them. Where one does not, nothing has been written, and the second part decides.

local plan = ARGV[1]
local nbuckets, charge = string.byte(plan, 1, 2)
if charge == 2 then
  local t = call('TIME')
  local now, raws, seens = t[1] * 1000000 + t[2], {}, {}
  for i = 1, nbuckets do
    local raw = call('GET', KEYS[i])
    if raw and #raw >= 8 then
      local version, seen = unpack('<BI7', raw)
      if version == VERSION then
        raws[i], seens[i] = raw, seen
        if seen > now then now = seen end
      end
    end
  end

  local values, lasts, current, at, ok = {}, {}, 0, 3, true
  local head = pack('<BI7', VERSION, now)
  local raw, seen, place, value, last
  -- The record at place, where there is one.
  local was, known, w_ends, w_n1, w_n2
  while true do
    -- Every limit has up to five numbers; the plan ends with zeros, for one of algorithm 0.
    local algorithm, bucket, tag, epoch, p1, p2, p3, p4, p5 =
      unpack('<BBxxI4I2ddddd', plan, at)

    -- Other records stay: those before this limit, and those behind the last one of a bucket.
    while true do
      if was and (bucket ~= current or was < tag) then
        if w_ends >= now then
          value = value .. pack_record(was, known, w_ends, w_n1, w_n2, now)
          if w_ends > last then last = w_ends end
        end
      elseif bucket ~= current then
        if current > 0 then values[current], lasts[current] = value, last end
        if bucket == 0 then break end
        current, value, last, place = bucket, head, now, 9
        raw, seen = raws[bucket] or '', seens[bucket]
      else
        break
      end
      if place > #raw then
        was = nil
      else
        local widths, after
        widths, was, w_ends, w_n1, after = unpack('<BI2I4B', raw, place)
        if widths % 4 == 0 then known, w_ends, w_n2, place = widths / 4, seen + w_ends, 0, after
        else was, known, w_ends, w_n1, w_n2, place = record_at(raw, place, seen) end
      end
    end
    if bucket == 0 then break end

    local ends, n1, n2 = 0, 0, 0
    if was == tag then
      if known == epoch then ends, n1, n2 = w_ends, w_n1, w_n2 end
      if place > #raw then
        was = nil
      else
        local widths, after
        widths, was, w_ends, w_n1, after = unpack('<BI2I4B', raw, place)
        if widths % 4 == 0 then known, w_ends, w_n2, place = widths / 4, seen + w_ends, 0, after
        else was, known, w_ends, w_n1, w_n2, place = record_at(raw, place, seen) end
      end
    end

    if algorithm == 1 then -- token_bucket
      at = at + 50
      if ends < now then ends, n1 = now, 0 end
      ends, n1 = ends + p1, n1 + p2
      if n1 >= p3 then ends, n1 = ends + 1, n1 - p3 end
      ok = ends < now + p4 or (ends == now + p4 and n1 <= p5)
    elseif algorithm == 2 then -- fixed_window
      at = at + 34
      local close = now - now % p3 + p3
      if ends ~= close then ends, n1 = close, 0 end
      n1 = n1 + p1
      ok = n1 <= p2
    else -- sliding_window
      at = at + 42
      local start = now - now % p3
      if ends == start + p3 then n1, n2 = 0, n1
      elseif ends ~= start + 2 * p3 then n1, n2 = 0, 0 end
      ends, n1 = start + 2 * p3, n1 + p1
      local span = p3 / p4
      ok = n2 * (span - floor((now - start) / p4)) <= (p2 - n1) * span
    end
    if not ok then break end
    local left = ends - now
    if n1 < 256 and n2 == 0 and left < 4294967296 and epoch < 64 and tag < 65536 then
      value = value .. pack('<BI2I4B', epoch * 4, tag, left, n1)
    else
      value = value .. pack_record(tag, epoch, ends, n1, n2, now)
    end
    if ends > last then last = ends end
  end

  if ok then
    for i = 1, nbuckets do
      call('SET', KEYS[i], values[i], 'PX', floor((lasts[i] - now) / 1000) + 1)
    end
    return nbuckets == 1 and value or values
  end
end
