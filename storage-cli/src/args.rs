//! What may stand on the command line.

mod history;
mod memory;
mod search;
mod values;

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use history::Messages;
pub(crate) use memory::Memory;
pub(crate) use search::Finding;
use values::{duration, time};

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    not there, not written, not healthy, or not ready
  2    wrong usage, input or settings
  3    the store, or the output, failed
  130  interrupted by Ctrl-C

Without an option the environment decides: STORAGE_TYPE, DATABASE_URL, REDIS_URL, REDIS_NAMESPACE,
STORAGE_OPERATION_TIMEOUT and others, also from a file .env here; without those it is sqlite:///./ad_buyer.db.
set, increment, import, init and memory put make a store that is not there; all others say that there is none.";

const ABOUT: &str =
    "Agent storage from a terminal: JSON entries by key, on SQLite, Redis, Postgres, or both.";

// `about` stands here because the comment of a flattened group would take its place.
#[derive(Debug, Parser)]
#[command(name = "storage", version, about = ABOUT, after_help = EXIT_CODES, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command; they win over the environment.
#[derive(Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The kind of store: sqlite, redis, postgres, hybrid or memory.
    #[arg(long = "type", global = true, value_name = "TYPE")]
    pub(crate) storage_type: Option<String>,
    /// The SQLite file or the Postgres server: sqlite:///file.db, postgresql://user:password@host/database; or a managed
    /// database: sqlite+file:///folder/agent, sqlite+azblob://account/container/agent, sqlite+s3://bucket/agent,
    /// sqlite+gs://bucket/agent.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// The Redis server: redis://host:6379/0, rediss:// (TLS), redis+unix:///path, redis-cluster://.
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) redis_url: Option<String>,
    /// What every Redis key starts with.
    #[arg(long, global = true, value_name = "PREFIX")]
    pub(crate) redis_namespace: Option<String>,
    /// How long one call may take, such as 500ms or 5s.
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Print for programs: JSON on stdout, errors as JSON on stderr.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Without the URLs, which hold passwords.
impl std::fmt::Debug for Global {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Global").field("json", &self.json).finish_non_exhaustive()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the JSON value of an entry on one line.
    Get {
        /// The key, such as deal:d-1.
        key: String,
    },
    /// Write an entry, over whatever is there.
    Set {
        /// The key, such as deal:d-1.
        key: String,
        /// The JSON value, or - to read it from stdin.
        #[arg(value_name = "JSON|-", allow_negative_numbers = true)]
        value: String,
        /// How long the entry stays, such as 90s or 2h; without it for good.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        ttl: Option<Duration>,
        /// Write only if there is no entry.
        #[arg(long)]
        if_absent: bool,
    },
    /// Delete entries.
    Delete {
        /// The keys.
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Tell whether there is an entry.
    Exists {
        /// The key.
        key: String,
    },
    /// List keys in byte order.
    Keys {
        /// A glob: `*`, `?`, `[abc]`, `[a-z]`, `[!a]`; `\` escapes.
        #[arg(default_value = "*")]
        pattern: String,
        /// End each key with a NUL instead of a line end, for keys that hold line ends.
        #[arg(short = '0', long)]
        null: bool,
    },
    /// Tell how long an entry stays.
    Ttl {
        /// The key.
        key: String,
    },
    /// Add to an integer in one atomic step, and print the sum.
    Increment {
        /// The key; one that is not there counts as 0.
        key: String,
        /// What to add; may be negative.
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
        /// How long an entry stays that this creates.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        ttl: Option<Duration>,
    },
    /// Print all that a store, a user, a session or a thread has, as lines with a checksum; or entries as plain lines.
    ///
    /// Without a pattern it is entries, conversations, tasks, threads and memories in the format of storage-agent/EXPORT.md, which
    /// every store imports. With one it is entries as lines {"key":…,"value":…,"expires_at":…}; expires_at is in seconds since 1970,
    /// or null.
    Export(Export),
    /// Write what an export holds, or entries of plain lines; what has expired since is skipped.
    ///
    /// An export that was changed, cut, or is of a later version is refused before anything is written, and so is one of which
    /// something is there already and differs. Plain lines are written over whatever is there.
    Import {
        /// The file; - or nothing is stdin.
        #[arg(value_name = "FILE|-", default_value = "-")]
        file: PathBuf,
        /// Leave what is there and differs as it is.
        #[arg(long, conflicts_with = "replace")]
        skip: bool,
        /// Put the export in the place of what is there and differs.
        #[arg(long)]
        replace: bool,
    },
    /// Make the store where it is not there yet: its file, tables or home.
    Init,
    /// Read from each store and write to it, and tell what does not work; the code is 1 where anything does not.
    Health {
        /// Print one line for orchestrators, `ready` or `not ready: store: reason`; the code is 0 where writes work.
        #[arg(long)]
        ready: bool,
    },
    /// Show what the store says about itself.
    Stats,
    /// Remove the rows of expired entries now.
    Cleanup,
    /// List, show, end and delete the sessions of agents.
    Sessions {
        #[command(subcommand)]
        command: Sessions,
    },
    /// Remove what a policy does not keep of sessions, conversations and threads, once.
    Retention {
        /// The policy, such as 'sessions: 7d; conversations: 1000 messages, 90d; threads: keep 50, 30d'; without it
        /// STORAGE_RETENTION.
        policy: Option<String>,
        /// Only say what would go.
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete users with all that agents keep of them.
    Users {
        #[command(subcommand)]
        command: Users,
    },
    /// Show the latest messages of a session's conversation, the oldest of them first.
    History {
        /// The id of the session.
        session: String,
        #[command(flatten)]
        which: Messages,
    },
    /// Find messages and memories by what they say, the best first; the code is 1 where nothing is found.
    ///
    /// All words have to be there, in any case and with or without accents; "green tea" is a phrase, deal* a beginning, OR an
    /// alternative, -draft an exclusion. Redis has no index: there a --session or a --namespace has to be named.
    Search(Finding),
    /// List, show and prune the threads of LangGraph's checkpoints.
    Threads {
        #[command(subcommand)]
        command: Threads,
    },
    /// Put, find and delete what agents remember over sessions and users.
    ///
    /// A namespace is written with / between its labels, such as users/42/facts; a / or a % in a label is written %2F or %25.
    Memory {
        #[command(subcommand)]
        command: Memory,
    },
    /// Look after a managed database: a SQLite file whose home is a folder, Azure Blob Storage or S3.
    Managed {
        /// The folder of the local copy; without it STORAGE_CACHE_DIR, or one below the user's cache folder.
        #[arg(long, global = true, value_name = "DIR")]
        cache: Option<PathBuf>,
        #[command(subcommand)]
        command: Managed,
    },
    /// Play a buyer's and a seller's day on sample data; leaves nothing behind.
    Demo,
    /// Print a completion script.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// A glob of keys: `*`, `?`, `[abc]`, `[a-z]`, `[!a]`; `\` escapes. Only these entries, as plain lines.
    #[arg(conflicts_with_all = ["user", "session", "thread", "kind", "to"])]
    pub(crate) pattern: Option<String>,
    /// Only this user: sessions with what belongs to them, threads and memories, as `users delete` finds them.
    #[arg(long, value_name = "USER", conflicts_with_all = ["session", "thread", "kind"])]
    pub(crate) user: Option<String>,
    /// Also the user's threads whose ids start with this.
    #[arg(long, value_name = "PREFIX", requires = "user")]
    pub(crate) thread_prefix: Vec<String>,
    /// Only this session: its document, conversation, tasks and threads.
    #[arg(long, value_name = "ID", conflicts_with_all = ["thread", "kind"])]
    pub(crate) session: Option<String>,
    /// Only this thread.
    #[arg(long, value_name = "THREAD", conflicts_with = "kind")]
    pub(crate) thread: Option<String>,
    /// Also the partitions of this kind, which another program has.
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Vec<String>,
    /// Write to this file instead of stdout; it must not exist, and is there when it is whole.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Users {
    /// Delete a user's sessions, conversations, tasks, threads and memories. Repeat it where it was interrupted.
    ///
    /// Threads are those of the user's sessions, those with a checkpoint whose metadata has the user's `user_id`, and those
    /// whose ids start with a prefix that is given. Memories are those below {user}, users/{user} and memories/{user}. What
    /// belonged to sessions that have expired by themselves names no user: `storage retention 'sessions: 1d'` removes it.
    Delete {
        /// The user's id.
        user: String,
        /// Also the threads whose ids start with this.
        #[arg(long, value_name = "PREFIX")]
        thread_prefix: Vec<String>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Sessions {
    /// List sessions in byte order of their ids.
    List {
        /// Only those of this user.
        #[arg(long, value_name = "USER")]
        user: Option<String>,
        /// Only those with this status, such as active.
        #[arg(long, value_name = "STATUS")]
        status: Option<String>,
        /// Only those that were not used for this long, such as 2h.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        idle: Option<Duration>,
        /// How many sessions at most.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
        /// Go on where a listing ended that had more.
        #[arg(long, value_name = "CURSOR")]
        after: Option<String>,
    },
    /// Show a session.
    Show {
        /// Its id.
        id: String,
    },
    /// Delete a session with its conversation, tasks and threads.
    Delete {
        /// Its id.
        id: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Set the status of a session that is over.
    End {
        /// Its id.
        id: String,
        /// The status, such as completed or failed.
        #[arg(long, default_value = "completed", value_name = "STATUS")]
        status: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Threads {
    /// List the threads that were written to last, the latest first.
    List {
        /// How many threads at most.
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
    },
    /// Show a thread, and its latest checkpoints as trees, one for each namespace.
    ///
    /// SIZE is that of a checkpoint and its writes, without the values of channels, which checkpoints share.
    Show {
        /// Its id.
        thread: String,
        /// How many of the latest checkpoints at most.
        #[arg(long, default_value_t = 10, value_name = "N")]
        limit: usize,
    },
    /// Remove old checkpoints, but for what interrupted runs and later checkpoints still need.
    Prune {
        /// The ids of the threads.
        #[arg(required = true, value_name = "THREAD")]
        threads: Vec<String>,
        /// How many of the latest checkpoints of each namespace stay.
        #[arg(long, value_name = "N", required_unless_present = "max_age")]
        keep: Option<usize>,
        /// Which checkpoints stay: those that are not older, such as 30d.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        max_age: Option<Duration>,
        /// Which checkpoints stay, too: those whose metadata has this member, neither null nor false.
        #[arg(long, value_name = "TAG")]
        keep_tagged: Option<String>,
        /// Only say what would go.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Managed {
    /// Publish a copy of a SQLite file as the first generation of an empty home. The file stays as it is; others may be
    /// using it.
    Adopt {
        /// The file.
        file: PathBuf,
    },
    /// Bring the local copy up to date, and show where it stands.
    Status,
    /// Take the lease for writing away from a process that is gone. What it had not published is refused if it lives.
    Unlock {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Fold what was published since the last base into a new one, and remove what nobody needs any more.
    Fold,
    /// Rebuild the newest generation from the home alone, and check it.
    Verify {
        /// Read what is kept under names, too: each is a whole database.
        #[arg(long)]
        holds: bool,
    },
    /// Look for what is sound of a home that is damaged, show what would be lost, and go on from it. Nothing is removed.
    Repair {
        /// Do not ask; without it, and without a terminal, it is only shown.
        #[arg(long)]
        yes: bool,
    },
    /// List the generations that can be restored, the newest first.
    Log {
        /// How many; 0 for all.
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
    },
    /// Write a generation to a new SQLite file, from the home alone.
    Restore {
        /// The generation; without it, --at and --hold, the newest.
        #[arg(long, value_name = "N", conflicts_with = "at")]
        generation: Option<u64>,
        /// The generation that was the newest at this time, such as '2026-11-28 12:00' (UTC), or so long ago, such as 2h.
        #[arg(long, value_name = "TIME", value_parser = time)]
        at: Option<SystemTime>,
        /// The generation that is kept under this name; with --generation, where there are several.
        #[arg(long, value_name = "NAME", conflicts_with = "at")]
        hold: Option<String>,
        /// The file; it must not exist.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Generations that are kept under a name, whatever STORAGE_MANAGED_RETENTION is, until they are removed.
    Hold {
        #[command(subcommand)]
        command: Hold,
    },
    /// Make a new key for STORAGE_MANAGED_KEYS or the file of STORAGE_MANAGED_KEY_FILE, and print it as id:key.
    Genkey {
        /// The key's id, which stands in each object that it encrypts; without it, a random one.
        #[arg(long, value_name = "ID")]
        id: Option<String>,
    },
    /// Local databases that had diverged from their home, and were kept.
    Rescue {
        #[command(subcommand)]
        command: Rescue,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Hold {
    /// Keep a generation: a copy of the database in the home.
    Add {
        /// A name for it: 1 to 64 letters, digits, `.`, `_` and `-`.
        name: String,
        /// The generation; without it the newest.
        #[arg(long, value_name = "N")]
        generation: Option<u64>,
    },
    /// List what is kept, the earliest generation first.
    List,
    /// Remove what is kept under a name, for good.
    Remove {
        /// Its name.
        name: String,
        /// Its generation, where several have that name.
        #[arg(long, value_name = "N")]
        generation: Option<u64>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Rescue {
    /// List what was kept, the oldest first.
    List,
    /// Write what was kept to a new SQLite file.
    Export {
        /// Its name in the list; without it the newest.
        name: Option<String>,
        /// The file; it must not exist.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Go on from the home. What had diverged stays kept.
    Resume,
    /// Remove what was kept, for good: one of them, or all that are old enough.
    Prune {
        /// Its name in the list.
        #[arg(required_unless_present = "older_than", conflicts_with = "older_than")]
        name: Option<String>,
        /// All that were kept so long ago, such as 30d.
        #[arg(long, value_name = "AGE", value_parser = duration)]
        older_than: Option<Duration>,
    },
}
