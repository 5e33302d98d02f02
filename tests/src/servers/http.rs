//! An HTTP client of a few lines, for setting servers up.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::error::Context;
use crate::{Error, Result};

/// S3 looks only at requests that are signed, be it by nobody: moto believes the signature.
const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=nobody/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, \
                      Signature=0";
const LIMIT: Duration = Duration::from_secs(10);

/// Sends a request to a server on this machine and returns its answer, head and body. Any answer will do.
pub(crate) fn ask(port: u16, method: &str, path: &str, body: &str) -> io::Result<String> {
    let mut answer = Vec::new();
    send(port, method, path, body)?.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Sends a request, and leaves its answer unread.
pub(crate) fn send(port: u16, method: &str, path: &str, body: &str) -> io::Result<TcpStream> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_read_timeout(Some(LIMIT))?;
    connection.set_write_timeout(Some(LIMIT))?;
    let length = body.len();
    write!(connection, "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n")?;
    write!(connection, "Authorization: {SIGNED}\r\nContent-Length: {length}\r\n\r\n{body}")?;
    Ok(connection)
}

/// As [`ask`], for a request that has to succeed.
pub(crate) fn tell(port: u16, method: &str, path: &str, body: &str) -> Result<()> {
    let command = format!("{method} {path}");
    let answer = ask(port, method, path, body).context(&command)?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if status.starts_with('2') { Ok(()) } else { Err(Error::Failed { command, output: answer }) }
}

/// Whether an HTTP server answers on `port`.
pub(crate) fn answers(port: u16) -> bool {
    ask(port, "GET", "/", "").is_ok_and(|answer| answer.starts_with("HTTP/1.1 "))
}
