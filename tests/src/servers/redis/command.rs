//! A Redis client of a few lines, for setting servers up. It speaks through the Unix socket, which lies in the
//! server's own folder: what answers there is that server, whatever listens on its port, TLS or not.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::error::Context;
use crate::{Error, Result};

const LIMIT: Duration = Duration::from_secs(10);

/// Runs one command on a connection of its own, after `AUTH` with `credentials` unless they are empty.
pub(super) fn run(socket: &Path, credentials: Vec<&str>, words: &[&str]) -> Result<String> {
    let doing = || format!("ask Redis for {}", words.first().unwrap_or(&""));
    let mut connection = connect(socket).context(doing())?;
    if !credentials.is_empty() {
        let words: Vec<&str> = std::iter::once("AUTH").chain(credentials).collect();
        ask(&mut connection, &words).context("log in to Redis")??;
    }
    ask(&mut connection, words).context(doing())?
}

fn connect(socket: &Path) -> io::Result<BufReader<UnixStream>> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(BufReader::new(stream))
}

fn ask(connection: &mut BufReader<UnixStream>, words: &[&str]) -> io::Result<Result<String>> {
    connection.get_mut().write_all(request(words).as_bytes())?;
    let reply = reply(connection)?;
    Ok(reply.map_err(|output| Error::Failed { command: words.first().copied().unwrap_or("").into(), output }))
}

fn request(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{}", words.len(), words.concat())
}

/// Reads one reply: a text or a number, or an error's text. Elements of an array are joined by newlines.
fn reply(connection: &mut impl BufRead) -> io::Result<Result<String, String>> {
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (kind, rest) = line.trim_end().split_at_checked(1).unwrap_or_default();
    match (kind, rest.parse::<usize>()) {
        ("+" | ":", _) => Ok(Ok(rest.into())),
        ("$", Ok(length)) => bulk(connection, length).map(Ok),
        ("*", Ok(count)) => {
            let elements: io::Result<Result<Vec<String>, String>> =
                (0..count).map(|_| reply(connection)).collect();
            elements.map(|elements| elements.map(|elements| elements.join("\n")))
        }
        // The null of a text or an array.
        ("$" | "*", Err(_)) => Ok(Ok(String::new())),
        _ => Ok(Err(rest.into())),
    }
}

fn bulk(connection: &mut impl BufRead, length: usize) -> io::Result<String> {
    let mut bytes = vec![0; length];
    connection.read_exact(&mut bytes)?;
    connection.read_exact(&mut [0; 2])?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_in_bytes() {
        assert_eq!(request(&["GET", "clé"]), "*2\r\n$3\r\nGET\r\n$4\r\nclé\r\n");
    }

    #[test]
    fn replies_of_each_kind_are_read() {
        let read = |mut bytes: &[u8]| reply(&mut bytes).unwrap();
        assert_eq!(read(b"+PONG\r\n"), Ok("PONG".into()));
        assert_eq!(read(b":7\r\n"), Ok("7".into()));
        assert_eq!(read(b"$3\r\na\r\n\r\n"), Ok("a\r\n".into()));
        assert_eq!(read(b"$-1\r\n"), Ok(String::new()));
        assert_eq!(read(b"*2\r\n+a\r\n$1\r\nb\r\n"), Ok("a\nb".into()));
        assert_eq!(read(b"-ERR no\r\n"), Err("ERR no".into()));
        assert!(reply(&mut &b""[..]).is_err());
    }
}
