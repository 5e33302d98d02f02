//! Passwords in a file, as libpq's `~/.pgpass`.

use std::path::Path;

/// The content of a password file. Others than its owner may not read it, else it is ignored with a warning, as libpq
/// does; one that is not there says nothing.
pub(crate) fn read(path: &Path) -> Option<String> {
    let metadata = path.metadata().ok()?;
    if !metadata.is_file() {
        tracing::warn!(path = %path.display(), "the Postgres password file is no plain file and is ignored");
        return None;
    }
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            "the Postgres password file may be read by others and is ignored: its permissions must be 0600 or less"
        );
        return None;
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the Postgres password file cannot be read");
            None
        }
    }
}

/// The password in the first line that is for a server, database and user.
pub(crate) fn password(text: &str, host: &str, port: u16, database: &str, user: &str) -> Option<String> {
    let port = port.to_string();
    let wanted = [host, &port, database, user];
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(fields).find_map(|(fields, password)| {
        let same = |(field, wanted): (&Field, &&str)| field.any || field.text == **wanted;
        let found = fields.len() == wanted.len() && fields.iter().zip(&wanted).all(same);
        password.filter(|password| found && !password.is_empty())
    })
}

/// A field of a line.
#[derive(Default)]
struct Field {
    text: String,
    /// An asterisk that is not escaped.
    any: bool,
}

/// The four fields before the password, and the password, in which a colon need not be escaped.
fn fields(line: &str) -> (Vec<Field>, Option<String>) {
    let (mut fields, mut field, mut escaped) = (Vec::new(), Field::default(), false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if !escaped => escaped = true,
            ':' if !escaped && fields.len() < 4 => {
                fields.push(std::mem::take(&mut field));
            }
            '*' if !escaped && field.text.is_empty() && letters.as_str().starts_with(':') => field.any = true,
            letter => {
                escaped = false;
                field.text.push(letter);
            }
        }
    }
    let whole = fields.len() == 4;
    (fields, whole.then_some(field.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_by_table() {
        let found = |text: &str| password(text, "db.example", 5432, "ads", "agent");
        for (text, expected) in [
            ("db.example:5432:ads:agent:secret", Some("secret")),
            ("*:*:*:*:secret", Some("secret")),
            ("*:*:*:agent:se:cr\\:e\\\\t", Some("se:cr:e\\t")),
            ("# *:*:*:*:comment\nother:*:*:*:no\n*:*:ads:*:secret\n*:*:*:*:later", Some("secret")),
            ("db.example:5433:ads:agent:secret", None),
            ("\\*:*:*:*:secret", None),
            ("*:*:*:secret", None),
            ("*:*:*:*:", None),
            ("", None),
        ] {
            assert_eq!(found(text).as_deref(), expected, "{text}");
        }
        assert_eq!(password("\\:\\:1:*:*:*:p", "::1", 1, "d", "u").as_deref(), Some("p"));
    }

    #[cfg(unix)]
    #[test]
    fn what_others_may_read_is_ignored() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        assert_eq!(read(&path), None);
        std::fs::write(&path, "*:*:*:*:secret").unwrap();
        for (mode, readable) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_some(), readable, "{mode:o}");
        }
        assert_eq!(read(folder.path()), None);
    }
}
