-- Prelude of every bucket script: the stored form (docs/decisions/0006-small-records.md).
--
-- A bucket is a string: an 8-byte head, then a record for each thing that is counted, in the order
-- of their tags.
--   head    version (1 byte), the latest time seen, us (7 bytes): time never runs backwards here
--   record  a byte that says how wide the rest is (below), then
--           tag    limit id * 4, + 1 for the limit's block, + 2 for what was given back to it
--           epoch  of the limit, modulo 2^16
--           ends   when the record stops to matter, as us after the latest time seen
--           n1, n2 token_bucket: remainder; ends is the theoretical arrival time
--                  fixed_window: units used; ends with the window
--                  sliding_window: units used, and in the window before; ends with the next one
--                  sliding_log: units in the log
--                  block: nothing; ends with the block
--                  given back: us so far, and the second before which charges are not given back
-- All little-endian. A record that has ended is dropped at the next write. Most records are 8
-- bytes; what the first byte modulo 4 means, where the rest of it is the epoch or 0:
--   0  tag 2, ends 4, n1 1
--   1  tag 2, ends 3, n1 2: ends in whole seconds after those of the latest time seen
--   2  tag 2, ends 5, n1 2
--   3  epoch 2, tag 4, ends 7, n1 7, n2 5
-- storage/packing.py reads the same form.

local VERSION = 2
local floor, unpack, pack, call = math.floor, struct.unpack, struct.pack, redis.call

-- tag, epoch, ends, n1, n2 of the record at a place, and the place of the next. ends is a time.
-- Nothing where it is cut short, as nobody here writes it.
local function record_at(raw, at, seen)
  local widths, tag, ends, n1, after = unpack('<BI2I4B', raw, at)
  local form = widths % 4
  if form == 0 then return tag, widths / 4, seen + ends, n1, 0, after end
  if form == 1 then
    tag, ends, n1, after = unpack('<I2I3I2', raw, at + 1)
    return tag, (widths - 1) / 4, (floor(seen / 1000000) + ends) * 1000000, n1, 0, after
  elseif form == 2 then
    if at + 9 > #raw then return end
    tag, ends, n1, after = unpack('<I2I5I2', raw, at + 1)
    return tag, (widths - 2) / 4, seen + ends, n1, 0, after
  end
  if at + 25 > #raw then return end
  local epoch, n2
  epoch, tag, ends, n1, n2, after = unpack('<I2I4I7I7I5', raw, at + 1)
  return tag, epoch, seen + ends, n1, n2, after
end

local function pack_record(tag, epoch, ends, n1, n2, now)
  local left = ends - now
  if n2 == 0 and n1 < 65536 and epoch < 64 and tag < 65536 then
    if n1 < 256 and left < 4294967296 then
      return pack('<BI2I4B', epoch * 4, tag, left, n1)
    end
    local left_s = ends / 1000000 - floor(now / 1000000)
    if ends % 1000000 == 0 and left_s < 16777216 then
      return pack('<BI2I3I2', epoch * 4 + 1, tag, left_s, n1)
    elseif left < 1099511627776 then
      return pack('<BI2I5I2', epoch * 4 + 2, tag, left, n1)
    end
  end
  return pack('<BI2I4I7I7I5', 3, epoch, tag, left, n1, n2)
end
