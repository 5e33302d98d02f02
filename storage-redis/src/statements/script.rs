//! The atomic steps that no single command does.

use std::sync::OnceLock;

use super::command::{Command, with_capacity};

/// A script and the hash by which the server keeps it.
pub(crate) struct Script {
    code: &'static str,
    hash: OnceLock<String>,
}

/// `KEYS[1]`; `ARGV`: the expected text, the new text or nothing to delete, milliseconds or `KEEP` or nothing.
///
/// Answers 1 where it swapped, nothing where there is no entry, and else the text that is there.
pub(crate) static SWAP: Script = Script::new(
    "local found = redis.call('GET', KEYS[1])
if not found then return false end
if found ~= ARGV[1] then return found end
if ARGV[2] == '' then redis.call('UNLINK', KEYS[1])
elseif ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2])
elseif ARGV[3] == 'KEEP' then redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1",
);

/// `KEYS[1]`; `ARGV`: what to add, milliseconds. Creates the entry with an expiry; an existing one keeps its own.
///
/// Answers the sum as text (a number would go through a float), or a status where the value is not spelled as Redis
/// spells integers.
pub(crate) static INCREMENT: Script = Script::new(
    "if redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') then return ARGV[1] end
local sum = redis.pcall('INCRBY', KEYS[1], ARGV[1])
if type(sum) == 'number' then return redis.call('GET', KEYS[1]) end
if string.sub(sum.err, 1, 4) == 'ERR ' then return redis.status_reply('SPELLING') end
return sum",
);

/// `KEYS[1]`. Removes the expiry; answers whether there is an entry.
pub(crate) static PERSIST: Script = Script::new(
    "redis.call('PERSIST', KEYS[1])
return redis.call('EXISTS', KEYS[1])",
);

/// `KEYS`: those of the conditions, then those of the operations. `ARGV`: how many conditions; for each the expected text, or
/// nothing where no entry is to be; for each operation the new text, or nothing to delete, and milliseconds, or nothing.
///
/// Answers 1 where it applied, else for each condition that does not hold its place, counted from 0, and what is there (an error
/// where that is no text): all of them at once, for each may only be spelled otherwise.
pub(crate) static APPLY: Script = Script::new(
    "local conditions, others = tonumber(ARGV[1]), {}
for place = 1, conditions do
  local found, expected = redis.pcall('GET', KEYS[place]), ARGV[place + 1]
  if expected == '' and found or expected ~= '' and found ~= expected then
    others[#others + 1] = place - 1
    others[#others + 1] = found
  end
end
if #others > 0 then return others end
for place = conditions + 1, #KEYS do
  local at = 2 * place - conditions
  if ARGV[at] == '' then redis.call('UNLINK', KEYS[place])
  elseif ARGV[at + 1] == '' then redis.call('SET', KEYS[place], ARGV[at])
  else redis.call('SET', KEYS[place], ARGV[at], 'PX', ARGV[at + 1]) end
end
return 1",
);

impl Script {
    pub(crate) const fn new(code: &'static str) -> Self {
        Self { code, hash: OnceLock::new() }
    }

    /// Runs it by its hash; the server answers NOSCRIPT where it has forgotten it.
    pub(crate) fn by_hash<A: AsRef<[u8]>>(&self, keys: &[&str], arguments: &[A]) -> Command {
        let hash = self.hash.get_or_init(|| sha1_smol::Sha1::from(self.code).digest().to_string());
        command("EVALSHA", hash, keys, arguments)
    }

    /// Runs it and lets the server keep it.
    pub(crate) fn in_full<A: AsRef<[u8]>>(&self, keys: &[&str], arguments: &[A]) -> Command {
        command("EVAL", self.code, keys, arguments)
    }
}

fn command<A: AsRef<[u8]>>(name: &str, script: &str, keys: &[&str], arguments: &[A]) -> Command {
    let bytes: usize = arguments.iter().map(|argument| argument.as_ref().len() + 16).sum();
    let command = with_capacity(name, bytes + script.len() + 256).arg(script).number(keys.len());
    command.args(keys).args(arguments)
}
