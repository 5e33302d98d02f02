//! What kind of store a text names, by its scheme or its form.

/// The schemes of managed databases' homes, the feature that each needs, and whether this build has it.
pub(crate) const MANAGED: [(&str, &str, bool); 4] = [
    ("sqlite+file", "managed", cfg!(feature = "managed")),
    ("sqlite+azblob", "managed-azure", cfg!(feature = "managed-azure")),
    ("sqlite+s3", "managed-s3", cfg!(feature = "managed-s3")),
    ("sqlite+gs", "managed-gcs", cfg!(feature = "managed-gcs")),
];

/// What a setting with a URL holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// A URL, with its scheme in lower case.
    Scheme(String),
    /// libpq's `host=… user=… dbname=…`.
    Libpq,
    /// Plainly the path of a file: it begins with `/`, `./`, `../` or a drive, ends as files of SQLite do, or has folders
    /// and nothing that belongs to an address.
    Path,
    /// `host:port`, with the number of a database or not.
    Address,
    /// The home of a user, which only shells know.
    Tilde,
    /// A scheme without its colon, as in `postgresql//host/database`.
    WithoutColon,
    /// Whatever else: taken for a path it would make a file of that name, a password in it.
    Unclear,
}

/// The endings of files that are plainly of SQLite.
const ENDINGS: [&str; 4] = [".db", ".db3", ".sqlite", ".sqlite3"];
/// With which of libpq's keywords a text may begin.
const KEYWORDS: [&str; 14] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "passfile",
    "dbname",
    "service",
    "sslmode",
    "sslrootcert",
    "options",
    "application_name",
    "connect_timeout",
    "target_session_attrs",
];

/// What a text names. Asks no file system: building a backend does no I/O.
pub(crate) fn named(text: &str) -> Named {
    if is_libpq(text) {
        return Named::Libpq;
    }
    if is_address(text) {
        return Named::Address;
    }
    if let Some(scheme) = scheme(text) {
        return Named::Scheme(scheme);
    }
    if text.starts_with('~') {
        return Named::Tilde;
    }
    if text.split_once("//").is_some_and(|(before, _)| is_word(before)) {
        return Named::WithoutColon;
    }
    if is_path(text) { Named::Path } else { Named::Unclear }
}

/// Whether a URL names the home of a managed database.
pub(crate) fn is_managed(url: &str) -> bool {
    scheme(url).is_some_and(|scheme| MANAGED.iter().any(|(known, ..)| *known == scheme))
}

/// The scheme of a URL, up to its `:`, in lower case.
pub(crate) fn scheme(url: &str) -> Option<String> {
    let (scheme, _) = url.split_once(':')?;
    // Of one letter it is a drive.
    (scheme.len() > 1 && is_word(scheme)).then(|| scheme.to_ascii_lowercase())
}

/// The URL with its scheme in lower case.
pub(crate) fn lowered(url: &str) -> String {
    match (scheme(url), url.split_once(':')) {
        (Some(scheme), Some((_, rest))) => format!("{scheme}:{rest}"),
        _ => url.to_owned(),
    }
}

pub(crate) fn is_postgres(scheme: &str) -> bool {
    matches!(scheme.split('+').next(), Some("postgres" | "postgresql"))
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn is_libpq(text: &str) -> bool {
    let keyword = text.split_once('=').map(|(keyword, _)| keyword.trim());
    keyword.is_some_and(|keyword| KEYWORDS.contains(&keyword))
}

fn is_address(text: &str) -> bool {
    let Some((host, rest)) = text.rsplit_once(':') else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (port, database) = rest.split_once('/').unwrap_or((rest, "0"));
    let is_host = !host.is_empty()
        && (host.starts_with('[') || host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)));
    is_host && digits(port) && !database.contains('/')
}

fn is_path(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let has_drive = lower.as_bytes().get(1) == Some(&b':');
    ENDINGS.iter().any(|ending| lower.ends_with(ending))
        || ["/", "./", "../", ".\\", "..\\"].iter().any(|start| text.starts_with(start))
        || has_drive
        || (text.contains(['/', '\\']) && !text.contains(['@', ':', '=']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_text_names_by_table() {
        let scheme = |name: &str| Named::Scheme(name.to_owned());
        for (text, expected) in [
            ("sqlite:///a.db", scheme("sqlite")),
            ("SQLITE+AioSqlite:///a.db", scheme("sqlite+aiosqlite")),
            ("POSTGRESQL://h/d", scheme("postgresql")),
            ("redis+sentinel://h:1/s", scheme("redis+sentinel")),
            ("memory:", scheme("memory")),
            ("odd:name.db", scheme("odd")),
            ("host=db user=app password=x:y dbname=agent", Named::Libpq),
            ("dbname = agent", Named::Libpq),
            ("service=agents", Named::Libpq),
            ("./a.db", Named::Path),
            ("a.db", Named::Path),
            ("A.SQLite3", Named::Path),
            ("/var/lib/agent", Named::Path),
            ("../agent", Named::Path),
            ("data/agent", Named::Path),
            ("C:\\data\\agent", Named::Path),
            ("./host=db", Named::Path),
            ("db.example.com", Named::Unclear),
            ("memory", Named::Unclear),
            ("agent", Named::Unclear),
            ("app:secret@db/agents", scheme("app")),
            ("app@db/agents", Named::Unclear),
            ("key=value", Named::Unclear),
            ("127.0.0.1:6379", Named::Address),
            ("localhost:6379/0", Named::Address),
            ("db.example.com:5432/agents", Named::Address),
            ("[::1]:6379", Named::Address),
            ("~/x.db", Named::Tilde),
            ("postgresql//u@h/d", Named::WithoutColon),
            ("redis//h", Named::WithoutColon),
        ] {
            assert_eq!(named(text), expected, "{text}");
        }
    }
}
