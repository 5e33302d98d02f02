-- One page. KEYS: the partition's hash and index. ARGV: the command that reads the index in the order asked for, where it
-- starts and stops, the most items, whether with bodies, the most bytes.
-- Answers whether there are more, then of each item the sort key, the header and the body; nothing where there is no
-- partition, a status where a part of it is missing.

local hash, index, call = KEYS[1], KEYS[2], redis.call
local command, start, stop, left, bodies, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])

local items = call('HGET', hash, 'items')
if not items then return {} end
if tonumber(items) ~= call('ZCARD', index) then return redis.status_reply('CORRUPT') end

local page, bytes = {0}, 0
while true do
  -- One more than are wanted tells whether there are more; in pieces, for bytes may end the page early.
  local asked = math.min(left + 1, 100)
  local sorts = call(command, index, start, stop, 'LIMIT', 0, asked)
  for _, sort in ipairs(sorts) do
    if left == 0 then
      page[1] = 1
      return page
    end
    local header = call('HGET', hash, 'a:' .. sort)
    local body_bytes, tag_bytes, first = string.match(header or '', '^%d+ %d+ (%d+) (%d+) ()')
    if not first then return redis.status_reply('CORRUPT') end
    bytes = bytes + #header - (first - 1) - tag_bytes
    if bodies == '1' then bytes = bytes + body_bytes end
    if bytes > most and #page > 1 then
      page[1] = 1
      return page
    end
    page[#page + 1] = sort
    page[#page + 1] = header
    page[#page + 1] = bodies == '1' and tonumber(body_bytes) > 0 and call('HGET', hash, 'b:' .. sort)
    left = left - 1
  end
  if #sorts < asked then return page end
  start = '(' .. sorts[#sorts]
end
