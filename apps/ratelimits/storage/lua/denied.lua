-- Adds whom a process saw denied to the few whom a limit denied most in an hour.
--
-- KEYS  1 the hash of one limit and hour
-- ARGV  1 how many are kept; 2 the time to live, s;
--       then digest, times, of which so many at most may be another's, name; ...
-- Reply how many are kept now
-- Hash  digest -> '<times> <of which may be another's> <name>'
-- TTL   as given, from the last addition
--
-- Space-saving, of batches (after Agarwal et al., Mergeable summaries): who is new to a full hash
-- takes over the least count in it, and says so as what may be another's. So who has more than a
-- few hundredths of the denials is in it, however many addresses come once each.

local key, call = KEYS[1], redis.call
local most = tonumber(ARGV[1])
local raw = call('HGETALL', key)
local rows, at = {}, {}
for i = 1, #raw, 2 do
  local times, other, name = string.match(raw[i + 1], '^(%d+) (%d+) ?(.*)$')
  if times then
    rows[#rows + 1] = {raw[i], tonumber(times), tonumber(other), name, false, true}
    at[raw[i]] = rows[#rows]
  end
end
local least = 0
if #rows >= most then
  least = rows[1][2]
  for i = 2, #rows do if rows[i][2] < least then least = rows[i][2] end end
end
for i = 3, #ARGV, 4 do
  local who, times, other = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local row = at[who]
  if row then
    row[2], row[3], row[5] = row[2] + times, row[3] + other, true
  else
    row = {who, times + least, other + least, '', true}
    rows[#rows + 1] = row
    at[who] = row
  end
  if ARGV[i + 3] ~= '' then row[4] = ARGV[i + 3] end
end
table.sort(rows, function(a, b)
  if a[2] ~= b[2] then return a[2] > b[2] end
  return a[1] < b[1]
end)
local changed, gone = {}, {}
for i, row in ipairs(rows) do
  if i > most then
    if row[6] then gone[#gone + 1] = row[1] end
  elseif row[5] then
    changed[#changed + 1] = row[1]
    changed[#changed + 1] = string.format('%.0f %.0f %s', row[2], row[3], row[4])
  end
end
if #gone > 0 then call('HDEL', key, unpack(gone)) end
if #changed > 0 then call('HSET', key, unpack(changed)) end
call('EXPIRE', key, ARGV[2])
return math.min(#rows, most)
