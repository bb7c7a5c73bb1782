-- Prelude of every bucket script: the stored form (docs/decisions/0001-stored-form.md).
--
-- A bucket is a string: an 8-byte head, then one 29-byte record per limit.
--   head    version (1 byte), the latest time seen, us (7 bytes): time never runs backwards here
--   record  limit id (4; a block's + 2^31: check.lua), epoch (2), expiry, ms since 1970 (6), a (7), b (5), c (5)
-- All little-endian. What a, b and c mean: policy/algorithms.py. A record past its expiry says
-- nothing any more and is dropped at the next write.

local HEAD, RECORD = 8, 29
local RECORD_FORMAT = '<I4I2I6I7I5I5'
-- For so long a token bucket's record stays after the last write, once some of it was refunded.
local REFUNDED_US = 3600000000

local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

-- The records of a bucket, by limit id: {epoch, expiry_ms, a, b, c}, and the latest time seen.
local function read_bucket(raw)
  local records = {}
  if not raw or #raw < HEAD or string.byte(raw, 1) ~= 1 then return records, 0 end
  local seen = struct.unpack('<I7', raw, 2)
  for at = HEAD + 1, #raw - RECORD + 1, RECORD do
    local id, epoch, expiry_ms, a, b, c = struct.unpack(RECORD_FORMAT, raw, at)
    records[id] = {epoch, expiry_ms, a, b, c}
  end
  return records, seen
end

-- Written with a time to live that lasts until the last record can matter.
local function write_bucket(key, records, now)
  local now_ms = math.floor(now / 1000)
  local parts, last_ms = {'\1' .. struct.pack('<I7', now)}, 0
  for id, r in pairs(records) do
    if r[2] > now_ms then
      parts[#parts + 1] = struct.pack(RECORD_FORMAT, id, r[1], r[2], r[3], r[4], r[5])
      if r[2] > last_ms then last_ms = r[2] end
    end
  end
  if #parts == 1 then
    redis.call('UNLINK', key)
  else
    redis.call('SET', key, table.concat(parts), 'PX', string.format('%.0f', last_ms - now_ms))
  end
end
