//! What an SQLSTATE means, class by class.

use storage_core::{Error, ErrorKind};

use super::state::State;

type Meaning = (ErrorKind, &'static str, &'static str);

/// What a refusal leaves open.
pub(super) fn state(code: &str) -> State {
    match (code, code.get(..2).unwrap_or_default()) {
        // Statement completion unknown.
        ("40003", _) => State::Lost,
        // Deadlocks, and conflicts with others or, on a standby, with what is replayed.
        (_, "40" | "72") => State::RolledBack,
        ("25006", _) => State::ReadOnly,
        // An emergency stop may come between the commit and its answer, and class 08 is how a pooler says that it has
        // lost the server.
        ("57P02", _) | (_, "08") => State::Lost,
        // The server ends the session, or the session is in a state that no statement of ours expects.
        ("57P01" | "57P03" | "57P04" | "57P05", _) | (_, "25") => State::Closed,
        // Values, constraints, triggers, row security, limits, and damaged rows.
        ("42501", _) | (_, "21" | "22" | "23" | "27" | "44" | "54" | "P0" | "XX") => State::Unfit,
        _ => State::Refused,
    }
}

/// What the refusal of a statement means: kind, words and a hint. Nothing was applied, unless its [`state`] says otherwise.
fn meaning(code: &str) -> Meaning {
    use ErrorKind::{Config, Damaged, Full, InvalidInput, Refused, Timeout, Unauthorized, Unavailable};
    const POOLER: &str = "behind a pooler in transaction mode, such as PgBouncer, set POSTGRES_POOLER=true";
    const GRANTS: &str = "GRANT SELECT, INSERT, UPDATE, DELETE ON kv_store, storage_partition, storage_item TO the role, in POSTGRES_SCHEMA where it is set";
    const STANDBY: &str =
        "it may be a standby: name the primary, or several hosts, of which the one that takes writes is used";
    match (code, code.get(..2).unwrap_or_default()) {
        ("57014", _) => (Timeout, "the server ended the statement at its time limit", ""),
        ("57P01", _) => (Unavailable, "the server ended the connection: it is stopping, or was told to", ""),
        ("57P02" | "57P03", _) => (Unavailable, "the server is stopping or starting", ""),
        ("57P05" | "25P03", _) => {
            (Unavailable, "the server ended the connection, which was idle too long", "")
        }
        ("53300", _) => (
            Unavailable,
            "the server has no connection left",
            "lower POSTGRES_POOL_MAX or raise max_connections",
        ),
        ("53100", _) => (Full, "the server's disk is full", "make room on the server's disk"),
        ("53400", _) => (Refused, "a limit in the server's configuration is reached", "raise it"),
        ("25006", _) => (Unavailable, "the server takes no writes", STANDBY),
        ("40003", _) => (Unavailable, "the server does not know whether the statement was completed", ""),
        (_, "40" | "72") => (Unavailable, "the server rolled back in favour of others", ""),
        (_, "08") => (Unavailable, "the connection to the server, or the pooler's to it, broke", ""),
        ("42501", _) => (Unauthorized, "the role may not do this", GRANTS),
        ("0P000", _) | (_, "28" | "0L") => {
            (Unauthorized, "the login was refused", "check user, password and pg_hba.conf")
        }
        ("3D000", _) => (Config, "the database does not exist", "create it, or correct the URL"),
        ("3F000", _) => (Config, "the schema does not exist", "create it, or correct POSTGRES_SCHEMA"),
        ("42P01", _) => (Unavailable, "the table is gone", "connect again to create it"),
        (_, "26") | ("42P05", _) => (Config, "a prepared statement was lost", POOLER),
        ("42883" | "42704" | "42725", _) => (
            Refused,
            "the server lacks something that Postgres 12 and later have",
            "use PostgreSQL 12 or later",
        ),
        ("54000", _) | (_, "22") => (InvalidInput, "Postgres cannot keep this value", ""),
        ("58P01" | "XX001" | "XX002", _) => {
            (Damaged, "the server found its data damaged", "restore a backup")
        }
        (_, "0A") => (Refused, "the server does not do this, as it is set up", ""),
        (_, "21" | "23" | "27" | "44" | "P0" | "2F" | "38" | "39" | "HV") => (
            Refused,
            "a constraint, a trigger or a function in the database refused it",
            "kv_store and the tables beside it are meant to have none of others",
        ),
        (_, "42") => (Config, "the table kv_store has another shape than expected", ""),
        _ => (Unavailable, "the server refused the statement", ""),
    }
}

/// What it means where a connection was to be opened. `text` is the server's own, of which nothing is passed on.
fn meaning_at_login(code: &str, text: &str) -> Meaning {
    use ErrorKind::{Config, Refused, Unauthorized, Unavailable};
    match (code, code.get(..2).unwrap_or_default()) {
        _ if text.contains("startup parameter") => (
            Config,
            "a pooler refused the settings of the session",
            "behind a pooler in transaction mode, such as PgBouncer, set POSTGRES_POOLER=true, and no `options`",
        ),
        // A pooler has one SQLSTATE for all that it has to say.
        ("08P01", _) if text.contains("no such database") || text.contains("does not exist") => {
            (Config, "the database does not exist", "create it, or correct the URL")
        }
        ("08P01", _) if text.contains("auth") || text.contains("no such user") => {
            (Unauthorized, "the login was refused", "check user, password and the pooler's list of users")
        }
        ("08P01", _) => (Unavailable, "a pooler refused the connection", "see the pooler's log"),
        // The server takes the settings of a session one by one as it starts.
        ("42501", _) => (
            Unauthorized,
            "the role may not connect, or not with these settings",
            "check `options` in the URL",
        ),
        ("42601" | "42602" | "42704" | "55P02", _) | (_, "22") => (
            Config,
            "the server refused a setting of the session",
            "check `options` in the URL, or PGOPTIONS",
        ),
        (_, "0A") => {
            (Refused, "the server refused the connection, as it is set up", "use PostgreSQL 12 or later")
        }
        ("57P03", _) if text.contains("hot standby") || text.contains("not accepting connections") => (
            Unavailable,
            "the server takes no connections yet, or is a standby that serves no reads",
            "hot_standby=on lets a standby serve reads",
        ),
        _ => meaning(code),
    }
}

/// The error of a statement that was refused.
pub(super) fn refused(code: &str) -> Error {
    error(code, meaning(code))
}

/// The error of a connection that was refused.
pub(super) fn refused_at_login(code: &str, text: &str) -> Error {
    error(code, meaning_at_login(code, text))
}

fn error(code: &str, (kind, message, hint): Meaning) -> Error {
    let error = Error::new(kind, format!("{message} (SQLSTATE {code})"));
    if hint.is_empty() { error } else { error.with_hint(hint) }
}

#[cfg(test)]
mod tests;
