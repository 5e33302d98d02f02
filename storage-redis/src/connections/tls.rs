//! TLS with a provider of our own instead of the process's, and certificates that are read once.

use std::{io, path::Path, path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{
        CertificateDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
    server::ParsedCertificate,
};
use storage_core::{Error, Result};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::options::TlsVerify;

/// Makes TLS of a connection.
#[derive(Clone)]
pub(crate) struct Tls(TlsConnector);

impl Tls {
    /// Reads the trusted certificates, those of `ca` or the system's.
    pub(crate) async fn new(ca: Option<PathBuf>, verify: TlsVerify) -> Result<Self> {
        if verify == TlsVerify::None {
            return Self::trusting_anybody();
        }
        // Reading a system's certificates takes milliseconds of file access.
        let trusted = tokio::task::spawn_blocking(move || match ca {
            Some(path) => Trusted::from_file(&path),
            None => Ok(Trusted::of_system()),
        });
        let trusted =
            trusted.await.map_err(|_| Error::config("the trusted certificates could not be read"))??;
        let provider = Arc::new(ring::default_provider());
        let chains =
            WebPkiServerVerifier::builder_with_provider(Arc::new(trusted.roots), Arc::clone(&provider));
        let chains = chains.build().map_err(|_| Error::config("TLS could not be set up"))?;
        Self::with(provider, Arc::new(Rooted { chains, themselves: trusted.themselves }))
    }

    /// Verifies nothing.
    pub(crate) fn trusting_anybody() -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        Self::with(Arc::clone(&provider), Arc::new(Anybody(provider)))
    }

    fn with(provider: Arc<CryptoProvider>, verifier: Arc<dyn ServerCertVerifier>) -> Result<Self> {
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| Error::config("TLS could not be set up"))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.0.connect(name, stream).await
    }
}

/// Whom we trust.
struct Trusted {
    roots: RootCertStore,
    /// The certificates of a file, byte for byte: one may be the server's own.
    themselves: Vec<CertificateDer<'static>>,
}

impl Trusted {
    fn from_file(path: &Path) -> Result<Self> {
        let named = |what: &str| Error::config(format!("the certificate file {} {what}", path.display()));
        let unreadable = |error: &pem::Error| match error {
            pem::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => named("does not exist"),
            pem::Error::Io(error) => named(&format!("cannot be read: {}", error.kind())),
            _ => named("holds no PEM certificate"),
        };
        let mut trusted = Self { roots: RootCertStore::empty(), themselves: Vec::new() };
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
            let certificate = certificate.map_err(|error| unreadable(&error))?;
            let added = trusted.roots.add(certificate.clone());
            added.map_err(|_| named("holds a certificate that cannot be read"))?;
            trusted.themselves.push(certificate);
        }
        if trusted.roots.is_empty() { Err(named("holds no PEM certificate")) } else { Ok(trusted) }
    }

    fn of_system() -> Self {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, ignored) = roots.add_parsable_certificates(found.certs);
        tracing::debug!(added, ignored, unreadable = found.errors.len(), "read the system's certificates");
        Self { roots, themselves: Vec::new() }
    }
}

/// Verifies chains as rustls does, and takes a certificate that is itself one of those of the file. That is what
/// `openssl req -x509` makes, with the mark of an authority, for which rustls refuses it as a server's.
#[derive(Debug)]
struct Rooted {
    chains: Arc<WebPkiServerVerifier>,
    themselves: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Rooted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let verified =
            self.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // Its time was checked before that, its name was not.
            Err(TlsError::InvalidCertificate(error))
                if is_for_being_an_authority(&error) && self.themselves.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// rustls knows this error by its name alone.
fn is_for_being_an_authority(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Other(other) if other.0.to_string().contains("CaUsedAsEndEntity"))
}

/// Takes any certificate. The signatures of the handshake are still verified.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
