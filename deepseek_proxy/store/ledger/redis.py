"""The ledger of several machines: Redis 6.2 or later (or Valkey), one server, not a cluster.

Every method is one Lua script, which Redis runs alone; the clock that counts is its own. What was done when
an answer does not come, nobody knows, and `holdings` settles it. The server must not evict keys
(`maxmemory-policy noeviction`, its default). Refuses to know how it is reached (`redis_server`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from deepseek_proxy.store.ledger.base import (
    QUEUE_SECONDS,
    Hold,
    Lease,
    LedgerUnavailable,
    Mark,
    Taken,
    Ticket,
)
from deepseek_proxy.store.redis_server import RedisServer

_PREFIX: Final = "deepseek-proxy:ledger:"

# Leases and tickets of a holder lie in one hash each, so that they can be found when it has died.
_COMMON: Final = (
    f"local QUEUE_SECONDS = {QUEUE_SECONDS}"
    + """
local P, now = KEYS[1], tonumber(ARGV[1])
if not now then local time = redis.call('TIME'); now = time[1] + time[2] / 1000000 end

local function drop_lease(holder, id)
  local names = redis.call('HGET', P .. 'leases:' .. holder, id)
  if not names then return 0 end
  redis.call('HDEL', P .. 'leases:' .. holder, id)
  for _, name in ipairs(cjson.decode(names)) do redis.call('SREM', P .. 'held:' .. name, id) end
  return 1
end

local function drop_ticket(holder, id)
  local ticket = redis.call('HGET', P .. 'tickets:' .. holder, id)
  if not ticket then return end
  ticket = cjson.decode(ticket)
  redis.call('HDEL', P .. 'tickets:' .. holder, id)
  redis.call('ZREM', P .. 'wish:' .. table.concat(ticket.names, ' '), ticket.number)
  for _, name in ipairs(ticket.names) do redis.call('ZREM', P .. 'queue:' .. name, ticket.number) end
end

-- `holders` are scored by the end of their lives, `waiting` are those with tickets, by when they were heard.
local function bury_the_dead()
  for _, dead in ipairs(redis.call('ZRANGEBYSCORE', P .. 'holders', '-inf', now)) do
    for _, id in ipairs(redis.call('HKEYS', P .. 'leases:' .. dead)) do drop_lease(dead, id) end
    redis.call('ZREM', P .. 'holders', dead)
  end
  for _, silent in ipairs(redis.call('ZRANGEBYSCORE', P .. 'waiting', '-inf', now - QUEUE_SECONDS)) do
    for _, id in ipairs(redis.call('HKEYS', P .. 'tickets:' .. silent)) do drop_ticket(silent, id) end
    redis.call('ZREM', P .. 'waiting', silent)
  end
end

local function live(holder, ttl)
  bury_the_dead()
  redis.call('ZADD', P .. 'holders', now + ttl, holder)
  redis.call('ZADD', P .. 'waiting', 'XX', now, holder)
end

local function enter_lease(holder, id, names)
  redis.call('HSET', P .. 'leases:' .. holder, id, cjson.encode(names))
  for _, name in ipairs(names) do redis.call('SADD', P .. 'held:' .. name, id) end
end

-- Redis throws away what has expired a little after nobody sees it any more.
local function expire(key, moment)
  redis.call('PEXPIRE', key, math.max(1, math.ceil((moment - now) * 1000) + 1000))
end

local function exact(number) return string.format('%.6f', number) end
"""
)

# As in `turns`, which is where it is explained.
_ACQUIRE: Final = """
local id, holder, number = ARGV[2], ARGV[3], tonumber(ARGV[5])
live(holder, ARGV[4])
local choices, waits, spare, same, sum = cjson.decode(ARGV[7]), {}, {}, 0, 0
local before = number and '(' .. number or '+inf'
if number then
  local names = cjson.decode(ARGV[8])
  for _, name in ipairs(names) do waits[name] = true end
  same = redis.call('ZCOUNT', P .. 'wish:' .. table.concat(names, ' '), '-inf', before)
end
for _, holds in ipairs(choices) do
  for _, hold in ipairs(holds) do
    local name = hold[1]
    if not spare[name] then
      spare[name] = hold[2] - redis.call('SCARD', P .. 'held:' .. name)
        - redis.call('ZCOUNT', P .. 'queue:' .. name, '-inf', before) + (waits[name] and same or 0)
      if waits[name] then sum = sum + math.max(0, spare[name]) end
    end
  end
end
if number and sum <= same then return 0 end
for index, holds in ipairs(choices) do
  local names, free = {}, true
  for _, hold in ipairs(holds) do
    free = free and spare[hold[1]] > 0
    names[#names + 1] = hold[1]
  end
  if free then
    enter_lease(holder, id, names)
    if number then drop_ticket(holder, ARGV[6]) end
    return index
  end
end
return 0
"""

_RENEW: Final = """
bury_the_dead()
local alive = redis.call('ZSCORE', P .. 'holders', ARGV[2])
live(ARGV[2], ARGV[3])
return alive and 1 or 0
"""

_ENTER_AGAIN: Final = """
for _, lease in ipairs(cjson.decode(ARGV[3])) do enter_lease(ARGV[2], lease[1], lease[2]) end
"""

_RELEASE: Final = "return drop_lease(ARGV[2], ARGV[3])"

_HELD: Final = """
bury_the_dead()
local found = {}
for index = 2, #ARGV do found[index - 1] = redis.call('SCARD', P .. 'held:' .. ARGV[index]) end
return found
"""

_ENTER: Final = """
local id, holder, most, names = ARGV[2], ARGV[3], tonumber(ARGV[5]), cjson.decode(ARGV[6])
live(holder, ARGV[4])
local full = true
for _, name in ipairs(names) do full = full and redis.call('ZCARD', P .. 'queue:' .. name) >= most end
if full then return 0 end
local number = redis.call('INCR', P .. 'last-number')
for _, name in ipairs(names) do redis.call('ZADD', P .. 'queue:' .. name, number, number) end
redis.call('ZADD', P .. 'wish:' .. table.concat(names, ' '), number, number)
redis.call('ZADD', P .. 'waiting', now, holder)
redis.call('HSET', P .. 'tickets:' .. holder, id, cjson.encode({number = number, names = names}))
return number
"""

_LEAVE: Final = "drop_ticket(ARGV[2], ARGV[3])"

_WAITING: Final = """
bury_the_dead()
local found = {}
for index = 2, #ARGV do found[index - 1] = redis.call('ZCARD', P .. 'queue:' .. ARGV[index]) end
return found
"""

_ADD: Final = """
local totals = {}
for index = 3, #ARGV, 2 do
  local key = P .. 'counter:' .. ARGV[index]
  if tonumber(redis.call('HGET', key, 'until') or 0) <= now then
    redis.call('DEL', key)
    redis.call('HSET', key, 'until', ARGV[2])
    expire(key, ARGV[2])
  end
  totals[#totals + 1] = redis.call('HINCRBY', key, 'total', ARGV[index + 1])
end
return totals
"""

_READ: Final = """
local totals = {}
for index = 2, #ARGV do
  local entry = redis.call('HMGET', P .. 'counter:' .. ARGV[index], 'total', 'until')
  totals[index - 1] = tonumber(entry[2] or 0) > now and entry[1] or 0
end
return totals
"""

# As in `rates`, which is where it is explained.
_TAKE: Final = """
local key, limit, window = P .. 'rate:' .. ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local step = window / limit
local begin = math.min(math.max(tonumber(redis.call('GET', key) or 0), now), now + window)
local over, allowed = begin + step - now - window, 0
if over <= 1e-6 then
  allowed, over, begin = 1, 0, begin + step
end
redis.call('SET', key, exact(begin))
expire(key, begin)
local remaining = math.max(0, math.floor((now + window - begin + 1e-6) / step))
return {allowed, remaining, exact(begin - now), exact(over)}
"""

_MARK: Final = """
local key, moment = P .. 'mark:' .. ARGV[2], now + ARGV[4]
redis.call('HSET', key, 'text', ARGV[3], 'until', exact(moment))
expire(key, moment)
"""

_UNMARK: Final = "redis.call('DEL', P .. 'mark:' .. ARGV[2])"

_MARKS: Final = """
local found = {}
for index = 2, #ARGV do
  local entry = redis.call('HMGET', P .. 'mark:' .. ARGV[index], 'text', 'until')
  local left = tonumber(entry[2] or 0) - now
  found[index - 1] = left > 0 and {entry[1], exact(left)} or {}
end
return found
"""


class RedisLedger:
    """A `Ledger` in the Redis at `url` (`redis://`, `rediss://` or `unix://`). `clock` takes the place of the
    server's own."""

    def __init__(self, url: str, clock: Callable[[], float] | None = None) -> None:
        bodies = {
            "acquire": _ACQUIRE,
            "renew": _RENEW,
            "enter_again": _ENTER_AGAIN,
            "release": _RELEASE,
            "held": _HELD,
            "enter": _ENTER,
            "leave": _LEAVE,
            "waiting": _WAITING,
            "add": _ADD,
            "read": _READ,
            "take": _TAKE,
            "mark": _MARK,
            "unmark": _UNMARK,
            "marks": _MARKS,
        }
        scripts = {name: _COMMON + body for name, body in bodies.items()}
        self._server = RedisServer(url, _PREFIX, scripts, _failed, clock=clock, text=True)

    # -- leases -----------------------------------------------------------------------------------

    def acquire(
        self,
        lease_id: str,
        choices: Sequence[Sequence[Hold]],
        holder: str,
        ttl_seconds: float,
        ticket: Ticket | None = None,
    ) -> Lease | None:
        place = (ticket.number, ticket.id) if ticket is not None else ("", "")
        wishes = json.dumps([[(hold.name, hold.limit) for hold in holds] for holds in choices])
        names = json.dumps(sorted(ticket.names) if ticket is not None else [])
        choice = self._server.run("acquire", lease_id, holder, ttl_seconds, *place, wishes, names) - 1
        if choice < 0:
            return None
        return Lease(lease_id, holder, tuple(hold.name for hold in choices[choice]), choice)

    def renew(self, holder: str, leases: Sequence[Lease], ttl_seconds: float) -> None:
        if not self._server.run("renew", holder, ttl_seconds) and leases:
            again = json.dumps([(lease.id, lease.names) for lease in leases])
            self._server.run("enter_again", holder, again)

    def release(self, lease: Lease) -> bool:
        return bool(self._server.run("release", lease.holder, lease.id))

    def held(self, names: Sequence[str]) -> dict[str, int]:
        return dict(zip(names, self._server.run("held", *names), strict=True))

    # -- queues -----------------------------------------------------------------------------------

    def enter(
        self, ticket_id: str, names: Sequence[str], holder: str, ttl_seconds: float, max_waiting: int
    ) -> Ticket | None:
        wish = json.dumps(sorted(names))
        number = self._server.run("enter", ticket_id, holder, ttl_seconds, max_waiting, wish)
        return Ticket(ticket_id, holder, tuple(names), number) if number else None

    def leave(self, ticket: Ticket) -> None:
        self._server.run("leave", ticket.holder, ticket.id)

    def waiting(self, names: Sequence[str]) -> dict[str, int]:
        return dict(zip(names, self._server.run("waiting", *names), strict=True))

    # -- counters ---------------------------------------------------------------------------------

    def add(self, amounts: Mapping[str, int], expires_at: float) -> dict[str, int]:
        pairs = [part for pair in amounts.items() for part in pair]
        return dict(zip(amounts, self._server.run("add", expires_at, *pairs), strict=True))

    def read(self, names: Sequence[str]) -> dict[str, int]:
        return dict(zip(names, map(int, self._server.run("read", *names)), strict=True))

    # -- rates ------------------------------------------------------------------------------------

    def take(self, name: str, limit: int, window_seconds: float) -> Taken:
        allowed, remaining, reset, retry = self._server.run("take", name, limit, window_seconds)
        return Taken(bool(allowed), remaining, float(reset), float(retry))

    # -- marks ------------------------------------------------------------------------------------

    def mark(self, name: str, text: str, seconds: float) -> None:
        self._server.run("mark", name, text, seconds)

    def unmark(self, name: str) -> None:
        self._server.run("unmark", name)

    def marks(self, names: Sequence[str]) -> dict[str, Mark]:
        found = zip(names, self._server.run("marks", *names), strict=True)
        return {name: Mark(entry[0], float(entry[1])) for name, entry in found if entry}

    def close(self) -> None:
        self._server.close()


def _failed(reason: str) -> LedgerUnavailable:
    return LedgerUnavailable(f"The gateway's Redis cannot be used ({reason}).", retry_after=5)
