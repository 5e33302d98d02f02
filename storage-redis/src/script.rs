//! The atomic steps that no single command does.

use std::sync::LazyLock;

use redis::{Cmd, cmd};

/// A script and the hash by which the server keeps it.
pub(crate) struct Script {
    code: &'static str,
    hash: LazyLock<String>,
}

/// `KEYS[1]`; `ARGV`: the expected text, the new text or nothing to delete, milliseconds or `KEEP` or nothing.
///
/// Answers 1 where it swapped, nothing where there is no entry, and else the text that is there.
pub(crate) static SWAP: Script = Script {
    code: "local found = redis.call('GET', KEYS[1])
if not found then return false end
if found ~= ARGV[1] then return found end
if ARGV[2] == '' then redis.call('DEL', KEYS[1])
elseif ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2])
elseif ARGV[3] == 'KEEP' then redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1",
    hash: LazyLock::new(|| hash(SWAP.code)),
};

/// `KEYS[1]`; `ARGV`: what to add, milliseconds. Creates the entry with an expiry; an existing one keeps its own.
///
/// Answers the sum as text (a number would go through a float), or a status where the value is not spelled as Redis
/// spells integers.
pub(crate) static INCREMENT: Script = Script {
    code: "if redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') then return ARGV[1] end
local sum = redis.pcall('INCRBY', KEYS[1], ARGV[1])
if type(sum) == 'number' then return redis.call('GET', KEYS[1]) end
if string.sub(sum.err, 1, 4) == 'ERR ' then return redis.status_reply('SPELLING') end
return sum",
    hash: LazyLock::new(|| hash(INCREMENT.code)),
};

/// `KEYS[1]`. Removes the expiry; answers whether there is an entry.
pub(crate) static PERSIST: Script = Script {
    code: "redis.call('PERSIST', KEYS[1])
return redis.call('EXISTS', KEYS[1])",
    hash: LazyLock::new(|| hash(PERSIST.code)),
};

fn hash(code: &str) -> String {
    redis::Script::new(code).get_hash().to_owned()
}

impl Script {
    /// Runs it by its hash; the server answers NOSCRIPT where it has forgotten it.
    pub(crate) fn by_hash(&self, key: &str, arguments: &[&str]) -> Cmd {
        command("EVALSHA", &self.hash, key, arguments)
    }

    /// Runs it and lets the server keep it.
    pub(crate) fn in_full(&self, key: &str, arguments: &[&str]) -> Cmd {
        command("EVAL", self.code, key, arguments)
    }
}

fn command(name: &str, script: &str, key: &str, arguments: &[&str]) -> Cmd {
    let mut command = cmd(name);
    command.arg(script).arg(1).arg(key);
    for argument in arguments {
        command.arg(argument);
    }
    command
}
