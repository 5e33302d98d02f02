use super::*;

/// What codes come to.
fn check(table: &[(&str, ErrorKind, State)]) {
    for (code, kind, left) in table {
        assert_eq!((meaning(code).0, state(code)), (*kind, *left), "{code}");
    }
}

// One or more of each class that there is.

#[test]
fn classes_up_to_3_by_table() {
    use ErrorKind::*;
    check(&[
        ("03000", Unavailable, State::Refused),
        ("08000", Unavailable, State::Lost),
        ("08006", Unavailable, State::Lost),
        ("08P01", Unavailable, State::Lost),
        ("09000", Unavailable, State::Refused),
        ("0A000", Refused, State::Refused),
        ("0L000", Unauthorized, State::Refused),
        ("0P000", Unauthorized, State::Refused),
        ("21000", Refused, State::Unfit),
        ("22P05", InvalidInput, State::Unfit),
        ("23505", Refused, State::Unfit),
        ("23514", Refused, State::Unfit),
        ("25006", Unavailable, State::ReadOnly),
        ("25P02", Unavailable, State::Closed),
        ("25P03", Unavailable, State::Closed),
        ("26000", Config, State::Refused),
        ("27000", Refused, State::Unfit),
        ("28000", Unauthorized, State::Refused),
        ("28P01", Unauthorized, State::Refused),
        ("2F002", Refused, State::Refused),
        ("38000", Refused, State::Refused),
        ("39000", Refused, State::Refused),
        ("3D000", Config, State::Refused),
        ("3F000", Config, State::Refused),
        ("", Unavailable, State::Refused),
    ]);
}

#[test]
fn classes_from_4_by_table() {
    use ErrorKind::*;
    check(&[
        ("40001", Unavailable, State::RolledBack),
        ("40002", Unavailable, State::RolledBack),
        ("40003", Unavailable, State::Lost),
        ("40P01", Unavailable, State::RolledBack),
        ("42501", Unauthorized, State::Unfit),
        ("42703", Config, State::Refused),
        ("42804", Config, State::Refused),
        ("42883", Refused, State::Refused),
        ("42P01", Unavailable, State::Refused),
        ("42P05", Config, State::Refused),
        ("44000", Refused, State::Unfit),
        ("53100", Full, State::Refused),
        ("53200", Unavailable, State::Refused),
        ("53300", Unavailable, State::Refused),
        ("53400", Refused, State::Refused),
        ("54000", InvalidInput, State::Unfit),
        ("55000", Unavailable, State::Refused),
        ("55P03", Unavailable, State::Refused),
        ("57014", Timeout, State::Refused),
        ("57P01", Unavailable, State::Closed),
        ("57P02", Unavailable, State::Lost),
        ("57P03", Unavailable, State::Closed),
        ("57P04", Unavailable, State::Closed),
        ("57P05", Unavailable, State::Closed),
        ("58030", Unavailable, State::Refused),
        ("58P01", Damaged, State::Refused),
        ("72000", Unavailable, State::RolledBack),
        ("HV000", Refused, State::Refused),
        ("P0001", Refused, State::Unfit),
        ("XX000", Unavailable, State::Unfit),
        ("XX001", Damaged, State::Unfit),
    ]);
}

#[test]
fn refused_connections_by_table() {
    use ErrorKind::*;
    for (code, text, kind, hint) in [
        ("08P01", "unsupported startup parameter: options", Config, "POSTGRES_POOLER=true"),
        ("08P01", "unsupported startup parameter in options: jit", Config, "POSTGRES_POOLER=true"),
        ("08P01", "SASL authentication failed", Unauthorized, "password"),
        ("08P01", "no such user: x", Unauthorized, "user"),
        ("08P01", "no such database: x", Config, "URL"),
        ("08P01", "database \"auth\" does not exist", Config, "URL"),
        ("08P01", "query_wait_timeout", Unavailable, "log"),
        ("28P01", "", Unauthorized, "password"),
        ("3D000", "", Config, "URL"),
        ("42704", "unrecognized configuration parameter \"x\"", Config, "options"),
        ("22023", "invalid value for parameter \"x\"", Config, "options"),
        ("42501", "permission denied to set parameter \"x\"", Unauthorized, "options"),
        ("53300", "", Unavailable, "POSTGRES_POOL_MAX"),
        ("57P03", "the database system is not accepting connections", Unavailable, "hot_standby"),
        ("57P03", "the database system is starting up", Unavailable, ""),
    ] {
        let (found, _, said) = meaning_at_login(code, text);
        assert_eq!(found, kind, "{code} {text}");
        assert!(said.contains(hint), "{code} {text}: {said}");
    }
}
