//! What is asked for of TLS.

use std::{path::PathBuf, str::FromStr};

use storage_core::{Error, Result};

/// How the connection is encrypted and the server verified, as libpq's `sslmode`.
///
/// On a Unix socket nothing is encrypted, whatever is said here, as with libpq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// No encryption.
    Disable,
    /// Encryption where the server offers it, without verification; with root certificates given it means
    /// [`VerifyCa`](Self::VerifyCa). `allow` is taken as this: encryption is never tried last.
    Prefer,
    /// Encryption, without verification; with root certificates given it means [`VerifyCa`](Self::VerifyCa).
    Require,
    /// Encryption, and the certificate must lead to a root; the name is not checked.
    VerifyCa,
    /// Encryption, and the certificate must lead to a root and be for the host that is connected to.
    VerifyFull,
}

impl FromStr for SslMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                return Err(Error::config("the sslmode is not known")
                    .with_hint("one of disable, allow, prefer, require, verify-ca, verify-full"));
            }
        })
    }
}

/// Where the root certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SslRoots {
    /// The roots that the operating system trusts; `sslrootcert=system`, and the default of the `verify-` modes.
    System,
    /// A file of PEM blocks; `sslrootcert=/path`. A server's own self-signed certificate may be among them, and is then
    /// trusted for that server.
    File(PathBuf),
}

/// Whether the server's certificate is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVerify {
    /// As the [`SslMode`] says.
    #[default]
    Full,
    /// Never, whatever the [`SslMode`] and the roots say: the connection is encrypted, with whoever answers. Each
    /// `connect` logs a warning.
    None,
}
