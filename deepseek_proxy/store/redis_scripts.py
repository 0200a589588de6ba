"""What the Redis store does, as Lua scripts: Redis runs each of them alone, so each is atomic.

Keys, behind one prefix. A *tag* stands for an owner: a hash of fixed length, so that no id that a client
makes up reaches another owner's keys. A *name* is a tag and an id, one behind the other.

    r:NAME        hash    a response; `log` is the size of its events
    e:NAME        stream  its events; an entry's id is the first sequence number, and one, because 0 is none
    s:NAME        hash    a segment: parent, refs, ids, blob; its id is the head
    c:NAME        hash    a conversation
    i:NAME b:NAME zset, hash    its items in their order, and their blobs
    t:NAME        hash    a thought
    p:TAG         hash    item id -> where it is: `s` and a head, or `i` and a conversation's id
    bytes total   hash, string  sizes by tag, and of all
    old:KIND old:KIND:TAG       zsets: names of one kind, the oldest first
    ages          zset    kind and name, by the moment at which they expire
    workers duties cancel:WORKER  hashes, set

The scripts need Redis 6.2 or Valkey, one server and no cluster: they make keys from what they find.
"""

from __future__ import annotations

from typing import Final

COMMON: Final = """
local P, at = KEYS[1], 0
local function take() at = at + 1 return ARGV[at] end
local now, owner_limit, total_limit = tonumber(take()), tonumber(take()), tonumber(take())
if not now then local time = redis.call('TIME') now = time[1] + time[2] / 1000000 end
local TAG, ROW = 32, 120

-- Redis without memory refuses a script at its first write, if that could take some. This one cannot: what
-- makes room, or keeps alive what is there, begins with it.
local function whatever_the_memory() redis.call('DEL', P .. 'nothing') end

local function hold(tag, bytes)
  if redis.call('HINCRBY', P .. 'bytes', tag, bytes) == 0 then redis.call('HDEL', P .. 'bytes', tag) end
  redis.call('INCRBY', P .. 'total', bytes)
end

local function full(tag, size)
  if tonumber(redis.call('HGET', P .. 'bytes', tag) or 0) + size > owner_limit then return 'owner' end
  if tonumber(redis.call('GET', P .. 'total') or 0) + size > total_limit then return 'all' end
end

local function enlist(kind, tag, name, expires_at)
  local n = redis.call('INCR', P .. 'number')
  redis.call('ZADD', P .. 'old:' .. kind, n, name)
  redis.call('ZADD', P .. 'old:' .. kind .. ':' .. tag, n, name)
  redis.call('ZADD', P .. 'ages', expires_at, kind .. name)
end

local function strike(kind, tag, name)
  redis.call('ZREM', P .. 'old:' .. kind, name)
  redis.call('ZREM', P .. 'old:' .. kind .. ':' .. tag, name)
  redis.call('ZREM', P .. 'ages', kind .. name)
end

local function place(tag, item, where)
  if redis.call('HSET', P .. 'p:' .. tag, item, where) == 1 then hold(tag, ROW) end
end

local function unplace(tag, item, where)
  if redis.call('HGET', P .. 'p:' .. tag, item) == where then
    redis.call('HDEL', P .. 'p:' .. tag, item)
    hold(tag, -ROW)
  end
end

-- A segment as it comes in the arguments: head, parent, blob, how many items, their ids.
local function take_segment()
  local segment = {head = take(), parent = take(), blob = take(), ids = {}}
  for index = 1, tonumber(take()) do segment.ids[index] = take() end
  return segment
end

local function keep(tag, segment)
  local key = P .. 's:' .. tag .. segment.head
  if redis.call('EXISTS', key) == 1 then return end
  redis.call('HSET', key, 'parent', segment.parent, 'refs', 0, 'blob', segment.blob,
    'ids', cmsgpack.pack(segment.ids))
  if segment.parent ~= '' then redis.call('HINCRBY', P .. 's:' .. tag .. segment.parent, 'refs', 1) end
  hold(tag, ROW + #segment.blob)
  for _, item in ipairs(segment.ids) do place(tag, item, 's' .. segment.head) end
end

local function refer(tag, head)
  if head ~= '' then redis.call('HINCRBY', P .. 's:' .. tag .. head, 'refs', 1) end
end

local function let_go(tag, head)
  while head ~= '' do
    local key = P .. 's:' .. tag .. head
    if redis.call('HINCRBY', key, 'refs', -1) > 0 then return end
    local gone = redis.call('HMGET', key, 'parent', 'ids')
    hold(tag, -ROW - redis.call('HSTRLEN', key, 'blob'))
    redis.call('DEL', key)
    for _, item in ipairs(cmsgpack.unpack(gone[2])) do unplace(tag, item, 's' .. head) end
    head = gone[1]
  end
end

local function is_there(kind, name)
  local until_ = redis.call('HGET', P .. kind .. ':' .. name, 'expires_at')
  return until_ and tonumber(until_) > now
end

local function is_alive(worker)
  return tonumber(redis.call('HGET', P .. 'workers', worker) or 0) > now
end

local function is_running(name)
  return is_there('r', name) and redis.call('HGET', P .. 'r:' .. name, 'ended') == '0'
end

local function add_piece(tag, name, first, blob)
  local added = redis.pcall('XADD', P .. 'e:' .. name, string.format('%.0f-0', first + 1), 'b', blob)
  if type(added) == 'table' then
    if added.err:find('equal or smaller') then return end  -- it was there already
    error(added.err)
  end
  hold(tag, ROW + #blob)
  redis.call('HINCRBY', P .. 'r:' .. name, 'log', ROW + #blob)
end

local function take_pieces(tag, name)
  for _ = 1, tonumber(take()) do add_piece(tag, name, tonumber(take()), take()) end
end

local function remove_response(tag, name)
  local key = P .. 'r:' .. name
  local gone = redis.call('HMGET', key, 'input', 'head', 'worker', 'log', 'owner')
  hold(tag, -ROW - redis.call('HSTRLEN', key, 'body') - tonumber(gone[4]))
  redis.call('SREM', P .. 'cancel:' .. gone[3], name)
  redis.call('DEL', key, P .. 'e:' .. name)
  strike('r', tag, name)
  let_go(tag, gone[2])
  let_go(tag, gone[1])
end

local function extend(tag, id, expires_at)
  local name = tag .. id
  redis.call('HSET', P .. 'c:' .. name, 'expires_at', expires_at)
  redis.call('ZADD', P .. 'ages', expires_at, 'c' .. name)
  for _ = 1, tonumber(take()) do
    local item, blob = take(), take()
    if not redis.call('ZSCORE', P .. 'i:' .. name, item) then
      redis.call('ZADD', P .. 'i:' .. name, redis.call('HINCRBY', P .. 'c:' .. name, 'next', 1), item)
      redis.call('HSET', P .. 'b:' .. name, item, blob)
      hold(tag, ROW + #blob)
      place(tag, item, 'i' .. id)
    end
  end
end

local function remove_entry(tag, id, item)
  local name = tag .. id
  hold(tag, -ROW - redis.call('HSTRLEN', P .. 'b:' .. name, item))
  redis.call('ZREM', P .. 'i:' .. name, item)
  redis.call('HDEL', P .. 'b:' .. name, item)
  unplace(tag, item, 'i' .. id)
end

local function remove_conversation(tag, name)
  for _, item in ipairs(redis.call('ZRANGE', P .. 'i:' .. name, 0, -1)) do
    remove_entry(tag, name:sub(TAG + 1), item)
  end
  hold(tag, -ROW - redis.call('HSTRLEN', P .. 'c:' .. name, 'metadata'))
  redis.call('DEL', P .. 'c:' .. name)
  strike('c', tag, name)
end

local function remove_thought(tag, name)
  hold(tag, -ROW - redis.call('HSTRLEN', P .. 't:' .. name, 'blob'))
  redis.call('DEL', P .. 't:' .. name)
  strike('t', tag, name)
end

local REMOVE = {r = remove_response, c = remove_conversation, t = remove_thought}
"""

SCRIPTS: Final = {
    "longest": """
local tag = take()
for index = #ARGV, at + 1, -1 do
  if redis.call('EXISTS', P .. 's:' .. tag .. ARGV[index]) == 1 then return ARGV[index] end
end
return false
""",
    "chain": """
local tag, most, head, blobs = take(), tonumber(take()), take(), {}
while head ~= '' do
  local found = redis.call('HMGET', P .. 's:' .. tag .. head, 'blob', 'parent')
  if not found[1] then return {} end
  most = most - #found[1]
  if most < 0 then return 'large' end
  blobs[#blobs + 1] = found[1]
  head = found[2]
end
return blobs
""",
    "locate": """
local tag, most, found, known = take(), tonumber(take()), {}, {}
while at < #ARGV do
  local item = take()
  local where = redis.call('HGET', P .. 'p:' .. tag, item)
  if where and known[where] then
    table.insert(known[where], item)
  elseif where then
    local is_segment, blob = where:sub(1, 1) == 's', nil
    if is_segment then
      blob = redis.call('HGET', P .. 's:' .. tag .. where:sub(2), 'blob')
    else
      blob = redis.call('HGET', P .. 'b:' .. tag .. where:sub(2), item)
    end
    most = most - #blob
    if most < 0 then return 'large' end
    found[#found + 1] = {blob, item}
    if is_segment then known[where] = found[#found] end
  end
end
return found
""",
    "insert": """
local tag, id, base, has_segment = take(), take(), take(), take() == '1'
local size, input, segment = tonumber(take()), base, nil
if base ~= '' and redis.call('EXISTS', P .. 's:' .. tag .. base) == 0 then return 'gone' end
local reason = full(tag, size)
if reason then return reason end
if has_segment then
  segment = take_segment()
  keep(tag, segment)
  input = segment.head
end
refer(tag, input)
local name, expires_at = tag .. id, take()
local fields = {'expires_at', expires_at, 'input', input, 'head', '', 'cancel', '0', 'gaps', '0', 'log', 0}
while at < #ARGV do fields[#fields + 1] = take() end
redis.call('HSET', P .. 'r:' .. name, unpack(fields))
enlist('r', tag, name, expires_at)
hold(tag, ROW + redis.call('HSTRLEN', P .. 'r:' .. name, 'body'))
return 'done'
""",
    "response": """
local name = take()
if not is_there('r', name) then return false end
local row = redis.call('HMGET', P .. 'r:' .. name, 'created_at', 'expires_at', 'status', 'body', 'input',
  'own_input', 'head', 'conversation', 'background', 'worker', 'gaps', 'ended')
row[#row + 1] = is_alive(row[10]) and '1' or '0'
return row
""",
    "update": """
local tag, name, status, body = take(), take(), take(), take()
if not is_running(name) then return 0 end
hold(tag, #body - redis.call('HSTRLEN', P .. 'r:' .. name, 'body'))
redis.call('HSET', P .. 'r:' .. name, 'status', status, 'body', body)
return 1
""",
    "finish": """
local tag, name, status, body, gaps, has_output = take(), take(), take(), take(), take(), take() == '1'
if not is_running(name) then return 0 end
local row = redis.call('HMGET', P .. 'r:' .. name, 'input', 'conversation', 'expires_at', 'worker')
local head = row[1]
if has_output then
  local output = take_segment()
  keep(tag, output)
  head = output.head
end
refer(tag, head)
take_pieces(tag, name)
hold(tag, #body - redis.call('HSTRLEN', P .. 'r:' .. name, 'body'))
redis.call('HSET', P .. 'r:' .. name, 'status', status, 'body', body, 'gaps', gaps, 'head', head,
  'ended', '1')
redis.call('SREM', P .. 'cancel:' .. row[4], name)
if row[2] ~= '' and is_there('c', tag .. row[2]) then extend(tag, row[2], row[3]) end
return 1
""",
    "delete": """
local tag, name = take(), take()
if not is_there('r', name) then return 0 end
whatever_the_memory()
remove_response(tag, name)
return 1
""",
    "append": """
while at < #ARGV do
  local tag, name, first, blob = take(), take(), tonumber(take()), take()
  if is_running(name) then add_piece(tag, name, first, blob) end
end
""",
    "events": """
local name, after, most = take(), tonumber(take()), tonumber(take())
if not is_there('r', name) then return false end
local row = redis.call('HMGET', P .. 'r:' .. name, 'ended', 'gaps', 'worker')
local key, size, rest, found = P .. 'e:' .. name, 0, false, {}
local first = redis.call('XREVRANGE', key, string.format('%.0f', after + 2), '-', 'COUNT', 1)[1]
local from = first and first[1] or '-'
while not rest do
  local part = redis.call('XRANGE', key, from, '+', 'COUNT', 50)
  for _, piece in ipairs(part) do
    local blob = piece[2][2]
    if #found > 0 and size + #blob > most then rest = true break end
    found[#found + 1] = piece[1]
    found[#found + 1] = blob
    size = size + #blob
    from = '(' .. piece[1]
  end
  if #part < 50 then break end
end
local ended = row[1] == '1'
local abandoned = not ended and not is_alive(row[3])
return {not rest and ended and '1' or '0', not rest and abandoned and '1' or '0', row[2], found}
""",
    "beat": """
whatever_the_memory()
redis.call('HSET', P .. 'workers', take(), string.format('%.3f', now + take()))
""",
    "request_cancel": """
local name = take()
if not is_running(name) then return 0 end
redis.call('SADD', P .. 'cancel:' .. redis.call('HGET', P .. 'r:' .. name, 'worker'), name)
return 1
""",
    "cancels": """
local found = {}
for _, name in ipairs(redis.call('SMEMBERS', P .. 'cancel:' .. take())) do
  found[#found + 1] = redis.call('HGET', P .. 'r:' .. name, 'owner')
  found[#found + 1] = name:sub(TAG + 1)
end
return found
""",
    "create": """
local tag, id, size, expires_at, created_at, metadata = take(), take(), take(), take(), take(), take()
local reason = full(tag, tonumber(size))
if reason then return reason end
redis.call('HSET', P .. 'c:' .. tag .. id, 'created_at', created_at, 'metadata', metadata)
enlist('c', tag, tag .. id, expires_at)
hold(tag, ROW + #metadata)
extend(tag, id, expires_at)
return 'done'
""",
    "conversation": """
local name = take()
if not is_there('c', name) then return false end
return redis.call('HMGET', P .. 'c:' .. name, 'created_at', 'metadata')
""",
    "change": """
local tag, name, metadata, expires_at = take(), take(), take(), take()
if not is_there('c', name) then return 0 end
hold(tag, #metadata - redis.call('HSTRLEN', P .. 'c:' .. name, 'metadata'))
redis.call('HSET', P .. 'c:' .. name, 'metadata', metadata, 'expires_at', expires_at)
redis.call('ZADD', P .. 'ages', expires_at, 'c' .. name)
return 1
""",
    "drop": """
local tag, name = take(), take()
if not is_there('c', name) then return 0 end
whatever_the_memory()
remove_conversation(tag, name)
return 1
""",
    "add": """
local tag, id, size, expires_at = take(), take(), tonumber(take()), take()
if not is_there('c', tag .. id) then return 'gone' end
local reason = full(tag, size)
if reason then return reason end
extend(tag, id, expires_at)
return 'done'
""",
    "entries": """
local name, after, limit, descending, most = take(), take(), tonumber(take()), take() == '1', tonumber(take())
if not is_there('c', name) then return false end
local start = 0
if after ~= '' then
  local rank = redis.call(descending and 'ZREVRANK' or 'ZRANK', P .. 'i:' .. name, after)
  if not rank then return 'unknown' end
  start = rank + 1
end
local found = {'all'}
local range = descending and 'ZREVRANGE' or 'ZRANGE'
for _, item in ipairs(redis.call(range, P .. 'i:' .. name, start, limit < 0 and -1 or start + limit)) do
  local blob = redis.call('HGET', P .. 'b:' .. name, item)
  most = most - #blob
  if #found == limit + 1 or (#found > 1 and most < 0) then found[1] = 'more' break end
  found[#found + 1] = blob
end
return found
""",
    "entry": """
local name, item = take(), take()
return is_there('c', name) and redis.call('HGET', P .. 'b:' .. name, item)
""",
    "remove": """
local tag, id, item = take(), take(), take()
if not is_there('c', tag .. id) or not redis.call('ZSCORE', P .. 'i:' .. tag .. id, item) then return 0 end
whatever_the_memory()
remove_entry(tag, id, item)
return 1
""",
    "remember": """
while at < #ARGV do
  local tag, name, blob, expires_at = take(), take(), take(), take()
  if redis.call('EXISTS', P .. 't:' .. name) == 1 then remove_thought(tag, name) end
  redis.call('HSET', P .. 't:' .. name, 'blob', blob, 'expires_at', expires_at)
  enlist('t', tag, name, expires_at)
  hold(tag, ROW + #blob)
end
""",
    "recall": """
local name = take()
return is_there('t', name) and redis.call('HGET', P .. 't:' .. name, 'blob')
""",
    "claim": """
local duty, worker, seconds = take(), take(), take()
local held = redis.call('HMGET', P .. 'duties', duty, duty .. ' until')
if held[1] and held[1] ~= worker and tonumber(held[2]) > now then return 0 end
whatever_the_memory()
redis.call('HSET', P .. 'duties', duty, worker, duty .. ' until', string.format('%.3f', now + seconds))
return 1
""",
    "sweep": """
local most, done = tonumber(take()), 0
whatever_the_memory()
for _, member in ipairs(redis.call('ZRANGEBYSCORE', P .. 'ages', '-inf', now, 'LIMIT', 0, most)) do
  local name = member:sub(2)
  REMOVE[member:sub(1, 1)](name:sub(1, TAG), name)
  done = done + 1
end

local function held(tag)
  if tag == '' then return tonumber(redis.call('GET', P .. 'total') or 0) end
  return tonumber(redis.call('HGET', P .. 'bytes', tag) or 0)
end

-- Removes the oldest until what is held is below `limit`. A response that is being made stays.
local function shrink(suffix, tag, limit)
  for _, kind in ipairs({'t', 'r'}) do
    local skipped = 0
    while done < most and held(tag) > limit do
      local name = redis.call('ZRANGE', P .. 'old:' .. kind .. suffix, skipped, skipped)[1]
      if not name then break end
      if kind == 'r' and is_running(name) and is_alive(redis.call('HGET', P .. 'r:' .. name, 'worker')) then
        skipped = skipped + 1
      else
        REMOVE[kind](name:sub(1, TAG), name)
        done = done + 1
      end
    end
  end
end

local sizes = redis.call('HGETALL', P .. 'bytes')
for index = 1, #sizes, 2 do
  local tag, limit = sizes[index], 0.9 * owner_limit
  if tonumber(sizes[index + 1]) > limit then shrink(':' .. tag, tag, limit) end
end
shrink('', '', 0.9 * total_limit)
local workers = redis.call('HGETALL', P .. 'workers')
for index = 1, #workers, 2 do
  if tonumber(workers[index + 1]) <= now then redis.call('HDEL', P .. 'workers', workers[index]) end
end
return done
""",
    "usage": """
local tag = take()
if tag == '' then
  return {tonumber(redis.call('GET', P .. 'total') or 0), redis.call('ZCARD', P .. 'old:r'),
    redis.call('ZCARD', P .. 'old:c')}
end
return {tonumber(redis.call('HGET', P .. 'bytes', tag) or 0), redis.call('ZCARD', P .. 'old:r:' .. tag),
  redis.call('ZCARD', P .. 'old:c:' .. tag)}
""",
}
"""Name -> what follows `COMMON`. The first arguments are the moment (empty: the server's), and the limits."""
