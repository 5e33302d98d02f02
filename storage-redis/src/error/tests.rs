use super::*;

use ErrorKind::{Config, Corrupt, Full, Refused, Unauthorized, Unavailable, Unsupported};

/// What stands before the words of a command inside a script, on Redis 6.
const SCRIPT: &str = "ERR Error running script (call to f_db8d): @user_script:1: @user_script: 1: ";

/// What a server says, what it means, and words of the error.
const ANSWERS: [(&str, ErrorKind, &str); 39] = [
    ("LOADING Redis is loading the dataset in memory", Unavailable, "still reading its data: LOADING"),
    ("BUSY Redis is busy running a script", Unavailable, "busy with a script: BUSY"),
    ("UNKILLABLE Sorry the script already executed write commands", Unavailable, "UNKILLABLE"),
    ("CLUSTERDOWN The cluster is down", Unavailable, "CLUSTERDOWN"),
    ("TRYAGAIN Multiple keys request during rehashing of slot", Unavailable, "TRYAGAIN"),
    ("READONLY You can't write against a read only replica.", Unavailable, "takes no writes: READONLY"),
    ("@user_script: 1: -READONLY You can't write", Unavailable, ": READONLY"),
    ("EXECABORT Transaction discarded because of: READONLY You can't", Unavailable, ": READONLY"),
    ("EXECABORT Transaction discarded because of previous errors.", Unavailable, "EXECABORT"),
    ("MASTERDOWN Link with MASTER is down", Unavailable, "lost its master: MASTERDOWN"),
    ("NOREPLICAS Not enough good replicas to write.", Unavailable, "fewer replicas"),
    ("NOSCRIPT No matching script.", Unavailable, "NOSCRIPT"),
    ("ERR max number of clients reached", Unavailable, "maxclients"),
    ("OOM command not allowed when used memory > 'maxmemory'.", Full, "memory is full: OOM"),
    ("ERR OOM command not allowed script: 1d20, on @user_script:1.", Full, "OOM"),
    ("MISCONF Redis is configured to save RDB snapshots", Refused, "MISCONF"),
    ("NOAUTH Authentication required.", Unauthorized, "user and password"),
    ("WRONGPASS invalid username-password pair", Unauthorized, "user and password"),
    ("DENIED Redis is running in protected mode", Unauthorized, "protected-mode"),
    ("ERR Client sent AUTH, but no password is set", Unauthorized, "credentials"),
    ("NOPERM this user has no permissions to run the 'get' command", Unauthorized, "may not run GET"),
    ("NOPERM this user has no permissions to run the 'set' command or its subcommand", Unauthorized, "SET"),
    ("NOPERM User u has no permissions to run the 'client|setname' command", Unauthorized, "CLIENT|SETNAME"),
    ("NOPERM this user has no permissions to access one of the keys used", Unauthorized, "least rights"),
    ("NOPERM No permissions to access a key", Unauthorized, "may not do this: NOPERM"),
    (
        "ERR ACL failure in script: User u has no permissions to run the 'time' command script: a, on b",
        Unauthorized,
        "may not run TIME",
    ),
    ("ERR ACL failure in script: No permissions to access a key script: on b", Unauthorized, "may not"),
    ("ERR The user executing the script can't run this command or subcommand", Unauthorized, "may not"),
    ("ERR ERR The user executing the script can't run this command script: a, on b", Unauthorized, "may not"),
    ("ERR READONLY You can't write against a read only replica. script: a, on b", Unavailable, ": READONLY"),
    ("WRONGTYPE Operation against a key", Corrupt, "no text"),
    ("CROSSSLOT Keys in request don't hash to the same slot", Unsupported, "slots"),
    ("ERR unknown command 'EVALSHA'", Unsupported, "6.2"),
    ("NOPROTO unsupported protocol version", Unsupported, "NOPROTO"),
    ("ERR This instance has cluster support disabled", Config, "redis:// instead"),
    ("ERR DB index is out of range", Config, "database"),
    ("MOVED 1 127.0.0.1:1", Config, "redis-cluster://"),
    ("ERR whatever", Unavailable, "cannot take the work: ERR"),
    ("", Unavailable, "cannot take the work"),
];

/// The same behind [`SCRIPT`].
const INSIDE: [(&str, ErrorKind, &str); 4] = [
    ("-READONLY You can't write against a read only replica.", Unavailable, ": READONLY"),
    ("-OOM command not allowed when used memory", Full, "OOM"),
    ("The user executing the script can't run this command", Unauthorized, "least rights"),
    ("The user executing the script can't access at least one", Unauthorized, "least rights"),
];

#[test]
fn answers_of_the_server_by_table() {
    let inside = INSIDE.iter().map(|(line, kind, words)| (format!("{SCRIPT}{line}"), kind, words));
    for (line, kind, words) in
        ANSWERS.iter().map(|(line, kind, words)| ((*line).to_owned(), kind, words)).chain(inside)
    {
        let error = refused(&ServerError::new(&*line));
        assert_eq!(error.kind(), *kind, "{line}");
        assert!(error.to_string().contains(words), "{line}: {error}");
    }
}

#[test]
fn nothing_that_a_server_says_is_passed_on_but_codes_and_commands() {
    for line in ["NOPERM to run the 'secret word' command", "ERR secret", "secret", "NOPERM run the 'secret"]
    {
        assert!(!refused(&ServerError::new(line)).to_string().contains("secret"), "{line}");
    }
}

#[test]
fn only_a_write_under_way_has_an_unknown_outcome() {
    let kind = |failure: Failure, access| failure.into_error(access).kind();
    let not_sent = || Failure::NotSent(Error::new(Unavailable, "refused"));
    assert_eq!(kind(not_sent(), Access::Write), Unavailable);
    assert_eq!(kind(Failure::Lost, Access::Write), ErrorKind::OutcomeUnknown);
    assert_eq!(kind(Failure::TimedOut, Access::Write), ErrorKind::OutcomeUnknown);
    assert_eq!(kind(Failure::Lost, Access::Read), Unavailable);
    assert_eq!(kind(Failure::TimedOut, Access::Read), ErrorKind::Timeout);
}
