"""Lua scripts: what Redis has to decide and do atomically.

Each is a few lines over a small vocabulary (`has`, `get`, `size`, `due`, `put`, `drop`, `arg`), which exists twice: for
values that are keys of their own, and for values that are fields of one hash. Keys and field names are passed as
arguments, and nothing is ever inserted into the text of a script. `due` is when a value expires, in milliseconds, 0 for
never: fields never do, nor does anything on a server that does not report it (before Redis 7). Arguments at the end
that are all zero may be omitted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

__all__ = [
    "KINDS",
    "PUT_EXPIRING",
    "REMOVE_OBJECT",
    "STORE_OBJECT",
    "VERSION_BYTES",
    "Script",
    "ValueScripts",
]

VERSION_BYTES = 16
"""An index object is stored as its version followed by its data."""


@dataclass(frozen=True, slots=True)
class Script:
    """The text of a script, and the name by which a server remembers it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        """Compute the name that the server will give it."""
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False)
        object.__setattr__(self, "sha", digest.hexdigest())


# For a key of another type, `pcall` returns an error table: the key exists, and equals no value.
_STRINGS = """
local n = #KEYS
local function has(i) return redis.call('EXISTS', KEYS[i]) == 1 end
local function get(i) return redis.pcall('GET', KEYS[i]) end
local function size(i) return redis.pcall('STRLEN', KEYS[i]) end
local function due(i)
  local at = redis.pcall('PEXPIRETIME', KEYS[i])
  if type(at) == 'number' and at > 0 then return at else return 0 end
end
local function put(i, value, at)
  if at and at ~= '0' then redis.call('SET', KEYS[i], value, 'PXAT', at) else redis.call('SET', KEYS[i], value) end
end
local function drop(i) redis.call('UNLINK', KEYS[i]) end
local function arg(i) return ARGV[i] end
"""
_FIELDS = """
local n = tonumber(ARGV[1])
local function has(i) return redis.call('HEXISTS', KEYS[1], ARGV[1 + i]) == 1 end
local function get(i) return redis.call('HGET', KEYS[1], ARGV[1 + i]) end
local function size(i) return redis.call('HSTRLEN', KEYS[1], ARGV[1 + i]) end
local function due(i) return 0 end
local function put(i, value) redis.call('HSET', KEYS[1], ARGV[1 + i], value) end
local function drop(i) redis.call('HDEL', KEYS[1], ARGV[1 + i]) end
local function arg(i) return ARGV[1 + n + i] end
"""

# Write what is absent; return the positions of what exists. Arguments: values, their times.
_CREATE = """
local refused = {}
for i = 1, n do
  if has(i) then refused[#refused + 1] = i else put(i, arg(i), arg(n + i)) end
end
return refused
"""
# Write where the current value and its time are the expected ones; return the positions of the others.
# Arguments: current values, new values, current times, new times.
_REPLACE = """
local refused = {}
for i = 1, n do
  if get(i) == arg(i) and due(i) == tonumber(arg(2 * n + i) or 0) then put(i, arg(n + i), arg(3 * n + i))
  else refused[#refused + 1] = i end
end
return refused
"""
# Delete where the current value and its time are the expected ones; return the positions of other values.
# Arguments: current values, current times.
_DELETE = """
local refused = {}
for i = 1, n do
  local value = get(i)
  if value == arg(i) and due(i) == tonumber(arg(n + i) or 0) then drop(i)
  elseif value then refused[#refused + 1] = i end
end
return refused
"""
# Return each value: its size if that is over the limit, -1 if it is not a value, nil if it is absent;
# and for those that expire, the positions and the times.
_FETCH = """
local limit = tonumber(arg(1))
local found, which, times = {}, {}, {}
for i = 1, n do
  local bytes, at = size(i), due(i)
  if type(bytes) == 'table' then found[i] = -1
  elseif bytes > limit then found[i] = bytes
  else found[i] = get(i) end
  if at > 0 then which[#which + 1], times[#times + 1] = i, at end
end
return {found, which, times}
"""
# Return when each value expires.
_DUE = """
local times = {}
for i = 1, n do times[i] = due(i) end
return times
"""
_BODIES = (_CREATE, _REPLACE, _DELETE, _FETCH, _DUE)

# Write each value with its time, except over keys of another type; return their positions and types.
# Arguments: values, their times.
PUT_EXPIRING = Script(
    _STRINGS
    + """
local others = {}
for i = 1, n do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind == 'string' or kind == 'none' then put(i, arg(i), arg(n + i)) else others[#others + 1] = {i, kind} end
end
return others
"""
)
# Return whether any of the keys exists, and the position and type of each that is not a string.
KINDS = Script("""
local some, others = 0, {}
for i = 1, #KEYS do
  local bytes = redis.pcall('STRLEN', KEYS[i])
  if type(bytes) == 'number' then
    if bytes > 0 then some = 1 end
  elseif string.find(bytes.err, 'WRONGTYPE', 1, true) then
    some, others[#others + 1] = 1, {i, redis.call('TYPE', KEYS[i]).ok}
  else
    return bytes
  end
end
return {some, others}
""")


@dataclass(frozen=True, slots=True)
class ValueScripts:
    """The scripts for one layout of values."""

    create: Script
    replace: Script
    delete: Script
    fetch: Script
    due: Script

    @classmethod
    def of_strings(cls) -> ValueScripts:
        """Return the scripts for values that are keys of their own."""
        return cls(*(Script(_STRINGS + body) for body in _BODIES))

    @classmethod
    def of_fields(cls) -> ValueScripts:
        """Return the scripts for values that are fields of one hash."""
        return cls(*(Script(_FIELDS + body) for body in _BODIES))


# ARGV: name, what is expected ('absent', 'any' or 'version'), that version, new version and data.
# A TTL that somebody gave the index would delete it, so every write removes the TTL.
STORE_OBJECT = Script(f"""
local key, name, expect = KEYS[1], ARGV[1], ARGV[2]
if expect == 'absent' then
  if redis.call('HEXISTS', key, name) == 1 then return 0 end
elseif expect == 'version' then
  local current = redis.call('HGET', key, name)
  if not current or string.sub(current, 1, {VERSION_BYTES}) ~= ARGV[3] then return 0 end
end
redis.call('HSET', key, name, ARGV[4])
redis.call('PERSIST', key)
return 1
""")
REMOVE_OBJECT = Script(f"""
local current = redis.call('HGET', KEYS[1], ARGV[1])
if not current or string.sub(current, 1, {VERSION_BYTES}) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
""")
