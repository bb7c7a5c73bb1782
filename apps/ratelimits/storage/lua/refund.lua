-- Give back one charge of one limit, named so that it can never free more than was taken.
--
-- KEYS  1 the bucket; 2 the sidecar, where the limit has one
-- ARGV  1 algorithm; 2 id; 3 epoch; 4 cost; 5 window us; 6 a of the charged state (arrival time
--       or the window's start) or, for a log, the time of the charge; 7, 8 cost as us and remainder; 9 denominator
-- Reply 1 where something was given back, else 0 (expired, another window, another epoch).

local algorithm, id, epoch = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]) % 65536
local cost, window, named = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local records, seen = read_bucket(redis.call('GET', KEYS[1]))
local r = records[id]
if not r or r[1] ~= epoch then return 0 end
local now = math.max(clock(), seen)

if algorithm == 1 then
  -- Of a charge only what has not refilled since is still there to be given back.
  local left, whole, part = named - now, tonumber(ARGV[7]), tonumber(ARGV[8])
  if left <= 0 then return 0 end
  if left <= whole then whole, part = left, 0 end
  local a, b = r[3] - whole, r[4] - part
  if b < 0 then a, b = a - 1, b + tonumber(ARGV[9]) end
  r[3], r[4] = math.max(a, 0), math.max(b, 0)
elseif algorithm == 2 then
  if r[3] ~= named then return 0 end
  r[4] = math.max(0, r[4] - cost)
elseif algorithm == 3 then
  if r[3] == named then r[4] = math.max(0, r[4] - cost)
  elseif r[3] == named + window then r[5] = math.max(0, r[5] - cost)
  else return 0 end
elseif algorithm == 4 then
  local entry = string.format('%.0f:%.0f', named, cost)
  if redis.call('LREM', KEYS[2], -1, entry) == 0 then return 0 end
  r[3] = math.max(0, r[3] - cost)
else
  return 0
end
write_bucket(KEYS[1], records, now)
return 1
