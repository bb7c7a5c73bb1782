-- The first part of check.lua, for the checks that are most: plain limits that all allow.
--
-- It takes the same plan, whose second byte is 2 where all limits are plain: token_bucket,
-- fixed_window or sliding_window, every request counted as it comes, without block or lease. It
-- walks the plan and the stored records side by side, both in the order of tags, and writes the
-- bucket anew as it goes (what reads the next record stands there twice: a function would cost a call
-- for each). Where all allow, the reply is the bucket as it was written, or a list of
-- them. Where one does not, nothing has been written, and the second part decides.

local plan, PADDING = ARGV[1], 50
local nbuckets, charge = string.byte(plan, 1, 2)
if charge == 2 then
  local t = call('TIME')
  local now = t[1] * 1000000 + t[2]
  -- Tables only where there are several buckets: each costs as much as a record.
  local raws, values, lasts
  if nbuckets > 1 then raws, values, lasts = {}, {}, {} end
  local raw, seen
  for i = nbuckets, 1, -1 do
    local version
    raw = call('GET', KEYS[i]) or ''
    if #raw >= 8 then version, seen = unpack('<BI7', raw) end
    if version ~= VERSION then raw = ''
    elseif seen > now then now = seen end
    if raws then raws[i] = raw end
  end

  local current, at, size, ok = 0, 3, #plan - PADDING, true
  local head = pack('<BI7', VERSION, now)
  local place, value, last
  -- The record at place, where there is one.
  local was, known, w_ends, w_n1, w_n2
  while true do
    local algorithm, bucket, tag, epoch, p1, p2, p3, p4, p5 = 0, 0
    if at <= size then -- every limit has up to five numbers, the last ones those of the next
      algorithm, bucket, tag, epoch, p1, p2, p3, p4, p5 = unpack('<BBxxI4I2ddddd', plan, at)
    end

    -- Other records stay: those before this limit, and those behind the last one of a bucket.
    while true do
      if was and (bucket ~= current or was < tag) then
        if w_ends >= now then
          value = value .. pack_record(was, known, w_ends, w_n1, w_n2, now)
          if w_ends > last then last = w_ends end
        end
      elseif bucket ~= current then
        if values and current > 0 then values[current], lasts[current] = value, last end
        if bucket == 0 then break end
        if current > 0 then
          raw = raws[bucket]
          if raw ~= '' then seen = unpack('<I7', raw, 2) end
        end
        current, value, last, place = bucket, head, now, 9
      else
        break
      end
      if place + 7 > #raw then
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
      if place + 7 > #raw then
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
      if ends < now then ends, n1 = now, 0 elseif n1 >= p3 then ends, n1 = ends + 1, 0 end
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

  if ok and not values then
    call('SET', KEYS[1], value, 'PX', floor((last - now) / 1000) + 1)
    return value
  elseif ok then
    for i = 1, nbuckets do
      call('SET', KEYS[i], values[i], 'PX', floor((lasts[i] - now) / 1000) + 1)
    end
    return values
  end
end
