-- One commit. KEYS: the partition's hash and index. ARGV: what becomes of the expiry, the number of preconditions, each
-- precondition, each operation; a letter says which it is and so how many arguments follow.
-- Answers the version and an outcome for each operation, or a status that says why nothing happened.
--
-- Redis does not roll back. So the index, whose order ranges and bounds need, is changed as the operations go and put back
-- where one fails; the hash is written when none can fail any more.
-- Numbers stay below 2^53, where a double is exact; they are formatted by hand, for Lua itself keeps 14 digits only.

local hash, index, call = KEYS[1], KEYS[2], redis.call

local function text(number) return string.format('%.0f', number) end

local position = 0
local function take()
  position = position + 1
  return ARGV[position]
end

local time = call('TIME')
local now = time[1] * 1000 + math.ceil(time[2] / 1000)
local meta = call('HMGET', hash, 'version', 'sequence', 'items', 'bytes', 'expires_at')
local version, sequence, bytes = meta[1] or '0', tonumber(meta[2] or 0), tonumber(meta[4] or 0)
local count = call('ZCARD', index)
if meta[1] and tonumber(meta[3]) ~= count then return redis.status_reply('CORRUPT') end

-- What each item that was touched is now and was before; false where there is none. The same of tags.
local items, stored, tags, stored_tags = {}, {}, {}, {}

local function parse(header)
  local version, written, body_bytes, tag_bytes, start = string.match(header, '^(%d+) (%d+) (%d+) (%d+) ()')
  if not version then error({status = 'CORRUPT'}, 0) end
  local first = start + tag_bytes
  return {
    version = version, written = tonumber(written), body_bytes = tonumber(body_bytes),
    tag = string.sub(header, start, first - 1), attributes = string.sub(header, first),
  }
end

local function load(sort)
  if items[sort] == nil then
    local header = call('HGET', hash, 'a:' .. sort)
    stored[sort] = header and parse(header)
    items[sort] = stored[sort]
  end
  return items[sort]
end

local function load_tag(tag)
  if tags[tag] == nil then
    stored_tags[tag] = call('HGET', hash, 't:' .. tag)
    tags[tag] = stored_tags[tag]
  end
  return tags[tag]
end

local function set_tag(tag, sort)
  if tag ~= '' then
    load_tag(tag)
    tags[tag] = sort
  end
end

local function size(sort, item) return #sort + #item.attributes + item.body_bytes end

-- The part of removing and of writing over that both share.
local function forget(sort, item)
  bytes = bytes - size(sort, item)
  set_tag(item.tag, false)
  item.attributes = nil -- Not needed any more, and many of them are large.
end

local function remove(sort)
  local item = load(sort)
  if not item then return false end
  call('ZREM', index, sort)
  items[sort], count = false, count - 1
  forget(sort, item)
  return true
end

-- A `body` of nil is the stored one.
local function write(sort, attributes, body, body_bytes, tag)
  local old = load(sort)
  if old then
    forget(sort, old)
  else
    call('ZADD', index, 0, sort)
    count = count + 1
  end
  local item = {
    version = version, written = now, tag = tag, attributes = attributes, body = body, body_bytes = body_bytes,
  }
  items[sort] = item
  bytes = bytes + size(sort, item)
  set_tag(tag, sort)
end

-- 64-bit integers as high * 10^9 + low with 0 <= low < 10^9.
local function fits(high, low)
  return (high < 9223372036 or (high == 9223372036 and low <= 854775807))
    and (high > -9223372037 or (high == -9223372037 and low >= 145224192))
end

local function split(number)
  local sign, digits = string.match(number, '^%s*(%-?)(%d+)%s*$')
  if digits and #digits <= 19 then
    local high, low = tonumber(string.sub(digits, 1, -10)) or 0, tonumber(string.sub(digits, -9))
    if sign == '-' then high, low = 0 - high, 0 - low end
    if low < 0 then high, low = high - 1, low + 1e9 end
    if fits(high, low) then return high, low end
  end
  -- Spelled as a float, as `5.0` is.
  local float = tonumber(number)
  if not float or float ~= math.floor(float) or float < -2 ^ 63 or float >= 2 ^ 63 then
    error({status = 'NOINTEGER'}, 0)
  end
  return split(text(float))
end

local function join(high, low)
  local sign = ''
  if high < 0 then
    sign = '-'
    if low > 0 then high, low = high + 1, 1e9 - low end
    high = 0 - high
  end
  if high == 0 then return sign .. text(low) end
  return sign .. text(high) .. string.format('%09.0f', low)
end

local function add(left, right)
  local high, low = split(left)
  local by_high, by_low = split(right)
  high, low = high + by_high, low + by_low
  if low >= 1e9 then high, low = high + 1, low - 1e9 end
  if not fits(high, low) then error({status = 'OVERFLOW'}, 0) end
  return join(high, low)
end

local function put(may_be_there)
  local sort, attributes, body = take(), take(), take()
  if may_be_there ~= 'always' and load(sort) then
    if may_be_there == 'never' then error({status = 'EXISTS'}, 0) end
    return 0
  end
  write(sort, attributes, body, #body, '')
  return 1
end

local conditions = {
  version = function() return take() == version end,
  absent = function() return not load(take()) end,
  present = function() return load(take()) and true end,
  item = function()
    local item = load(take())
    local expected = take()
    return item and item.version == expected
  end,
}

local operations = {
  insert = function() return put('never') end,
  insert_if_absent = function() return put('untouched') end,
  upsert = function() return put('always') end,
  append = function()
    local prefix, attributes, body, tag = take(), take(), take(), take()
    local there = tag ~= '' and load_tag(tag)
    if there then return -tonumber(string.sub(there, -20)) end
    sequence = sequence + 1
    write(prefix .. string.format('%020.0f', sequence), attributes, body, #body, tag)
    return sequence
  end,
  delete = function() return remove(take()) and 1 or 0 end,
  delete_range = function()
    local from, to, deleted = take(), take(), 0
    while true do
      local sorts = call('ZRANGEBYLEX', index, from, to, 'LIMIT', 0, 1000)
      for _, sort in ipairs(sorts) do
        if not remove(sort) then error({status = 'CORRUPT'}, 0) end
      end
      deleted = deleted + #sorts
      if #sorts < 1000 then return deleted end
    end
  end,
  increment = function()
    local sort, by = take(), take()
    local item = load(sort)
    local sum = add(item and item.attributes or '0', by)
    if item then
      write(sort, sum, item.body, item.body_bytes, '')
    else
      write(sort, sum, '', 0, '')
    end
    return sum
  end,
  trim = function()
    local most, most_bytes, max_age = tonumber(take()), tonumber(take()), tonumber(take())
    local deleted = 0
    while count > 0 do
      local sort = call('ZRANGE', index, 0, 0)[1]
      local first = load(sort)
      if not first then error({status = 'CORRUPT'}, 0) end
      local beyond = (most and count > most) or (most_bytes and bytes > most_bytes and count > 1)
      if first.version == version or not (beyond or (max_age and first.written < now - max_age)) then break end
      remove(sort)
      deleted = deleted + 1
    end
    return deleted
  end,
}

-- An index that lost its last item is a new key, which knows no expiry, when it gets another.
local function keep_expiry(expires_at)
  if expires_at then call('PEXPIREAT', index, expires_at) end
end

local function put_back()
  for sort, item in pairs(items) do
    if item and not stored[sort] then call('ZREM', index, sort) end
    if stored[sort] and not item then call('ZADD', index, 0, sort) end
  end
  keep_expiry(meta[5])
end

-- In pieces, for a call takes some thousand arguments.
local function send(command, arguments)
  for first = 1, #arguments, 1000 do
    call(command, hash, unpack(arguments, first, math.min(first + 999, #arguments)))
  end
end

local function save()
  local set, gone = {}, {}
  local function put_field(field, value)
    set[#set + 1] = field
    set[#set + 1] = value
  end
  for sort, item in pairs(items) do
    local old = stored[sort]
    if item and item ~= old then
      put_field('a:' .. sort, string.format('%s %.0f %.0f %d ', item.version, item.written, item.body_bytes, #item.tag)
        .. item.tag .. item.attributes)
      if item.body and item.body ~= '' then put_field('b:' .. sort, item.body) end
    elseif old and not item then
      gone[#gone + 1] = 'a:' .. sort
    end
    -- An empty body takes no field.
    if old and old.body_bytes > 0 and not (item and item.body_bytes > 0) then gone[#gone + 1] = 'b:' .. sort end
  end
  for tag, sort in pairs(tags) do
    if sort and sort ~= stored_tags[tag] then put_field('t:' .. tag, sort) end
    if stored_tags[tag] and not sort then gone[#gone + 1] = 't:' .. tag end
  end
  put_field('version', version)
  put_field('sequence', text(sequence))
  put_field('items', text(count))
  put_field('bytes', text(bytes))
  put_field('updated_at', text(now))
  send('HSET', set)
  send('HDEL', gone)
end

local function expire(what)
  if what == 'keep' then
    keep_expiry(meta[5])
  elseif what == 'never' then
    call('HDEL', hash, 'expires_at')
    call('PERSIST', hash)
    call('PERSIST', index)
  else
    local expires_at = text(now + what)
    call('HSET', hash, 'expires_at', expires_at)
    call('PEXPIREAT', hash, expires_at)
    call('PEXPIREAT', index, expires_at)
  end
end

local what = take()
for _ = 1, take() do
  if not conditions[take()]() then return redis.status_reply('PRECONDITION') end
end
local answer = {0}
if position == #ARGV and not meta[1] then return answer end
-- What an eviction has left of an earlier partition.
if not meta[1] and count > 0 then
  call('UNLINK', index)
  count = 0
end
-- No later partition of the name has a version of an earlier one: the first is the time in microseconds.
version = text(meta[1] and version + 1 or time[1] * 1000000 + time[2])
local done, why = pcall(function()
  while position < #ARGV do answer[#answer + 1] = operations[take()]() end
end)
if not done then
  put_back()
  if type(why) == 'table' and why.status then return redis.status_reply(why.status) end
  error(why, 0)
end
save()
expire(what)
answer[1] = tonumber(version)
return answer
