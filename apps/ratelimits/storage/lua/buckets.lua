-- Whole buckets, as tables of records by tag, {epoch, ends, n1, n2}.

-- For so long a token bucket knows what it gave back, after the last charge.
local REFUNDED_US = 3600000000

local function clock()
  local t = call('TIME')
  return t[1] * 1000000 + t[2]
end

-- The records, and the latest time seen.
local function read_bucket(raw)
  local records = {}
  if not raw or #raw < 8 or string.byte(raw, 1) ~= VERSION then return records, 0 end
  local seen, at = unpack('<I7', raw, 2)
  while at + 7 <= #raw do
    local tag, epoch, ends, n1, n2, after = record_at(raw, at, seen)
    if not tag then break end
    records[tag] = {epoch, ends, n1, n2}
    at = after
  end
  return records, seen
end

-- Written with a time to live that lasts until the last record can matter.
local function write_bucket(key, records, now)
  local tags, last = {}, now
  for tag, r in pairs(records) do
    if r[2] >= now then
      tags[#tags + 1] = tag
      if r[2] > last then last = r[2] end
    end
  end
  if #tags == 0 then
    call('UNLINK', key)
    return
  end
  table.sort(tags)
  local parts = {pack('<BI7', VERSION, now)}
  for i = 1, #tags do
    local r = records[tags[i]]
    parts[i + 1] = pack_record(tags[i], r[1], r[2], r[3], r[4], now)
  end
  call('SET', key, table.concat(parts), 'PX', floor((last - now) / 1000) + 1)
end
