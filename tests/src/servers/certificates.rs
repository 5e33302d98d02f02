//! Certificates for servers on this machine.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::Result;
use crate::error::Context;

/// A certificate authority, and a certificate of its for `localhost`, 127.0.0.1 and ::1.
#[derive(Debug, Clone)]
pub struct Certificates {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificates {
    /// Makes a new authority and certificate, and writes them into `folder`, readable by their owner alone.
    ///
    /// # Errors
    ///
    /// When the files cannot be written.
    pub fn create(folder: &Path) -> Result<Certificates> {
        let authority_key = KeyPair::generate()?;
        let authority = authority()?;
        let authority_certificate = authority.self_signed(&authority_key)?;
        let key = KeyPair::generate()?;
        let certificate = server()?.signed_by(&key, &Issuer::new(authority, authority_key))?;
        Ok(Certificates {
            ca: write(folder.join("ca.pem"), &authority_certificate.pem())?,
            certificate: write(folder.join("server.pem"), &certificate.pem())?,
            key: write(folder.join("server.key"), &key.serialize_pem())?,
        })
    }

    /// Makes one certificate that is its own authority, as `openssl req -x509` does, and writes it into `folder`.
    ///
    /// # Errors
    ///
    /// When the files cannot be written.
    pub fn self_signed(folder: &Path) -> Result<Certificates> {
        let key = KeyPair::generate()?;
        let mut both = server()?;
        both.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        both.extended_key_usages.clear();
        let certificate = write(folder.join("server.pem"), &both.self_signed(&key)?.pem())?;
        let key = write(folder.join("server.key"), &key.serialize_pem())?;
        Ok(Certificates { ca: certificate.clone(), certificate, key })
    }

    /// Path of the authority's certificate (PEM), which clients trust.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Path of the server's certificate (PEM).
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// Path of the server's private key (PEM).
    #[must_use]
    pub fn key(&self) -> &Path {
        &self.key
    }
}

fn authority() -> Result<CertificateParams> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "agent storage test authority");
    Ok(authority)
}

fn server() -> Result<CertificateParams> {
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let mut server = CertificateParams::new(names)?;
    server.distinguished_name.push(DnType::CommonName, "localhost");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(server)
}

/// Writes a file that only its owner may read, as Postgres demands of keys.
fn write(path: PathBuf, text: &str) -> Result<PathBuf> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).context(format!("write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn certificates_are_their_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::create(folder.path()).unwrap();
        for path in [certificates.ca(), certificates.certificate(), certificates.key()] {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            assert!(std::fs::read_to_string(path).unwrap().starts_with("-----BEGIN "));
        }
    }
}
