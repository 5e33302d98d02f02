//! What libpq means by `sslmode`, over rustls.

use std::{io::ErrorKind, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem, pem::PemObject},
    server::ParsedCertificate,
};
use storage_core::{Error, Result};

use crate::config::{PostgresConfig, SslMode, SslRoots, TlsVerify};

/// The TLS setup; reads the root certificates.
pub(super) fn client_config(config: &PostgresConfig) -> Result<ClientConfig> {
    let roots = config.ssl_roots.as_ref();
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|_| Error::config("TLS could not be set up"))?
        .dangerous();
    let verifier: Arc<dyn ServerCertVerifier> = match (config.tls_verify, config.verification()) {
        (TlsVerify::Full, SslMode::VerifyCa) => Arc::new(Chain::new(provider, roots, false)?),
        (TlsVerify::Full, SslMode::VerifyFull) => Arc::new(Chain::new(provider, roots, true)?),
        _ => Arc::new(AnyCertificate(provider)),
    };
    let mut tls = builder.with_custom_certificate_verifier(verifier).with_no_client_auth();
    if config.speaks_tls_at_once() {
        tls.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(tls)
}

fn file_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |what: &str| {
        Error::config(format!(
            "the root certificates `{}` (POSTGRES_TLS_CA, sslrootcert) {what}",
            path.display()
        ))
    };
    let unreadable = |error: pem::Error| match error {
        pem::Error::Io(error) if error.kind() == ErrorKind::NotFound => wrong("does not exist"),
        pem::Error::Io(error) => wrong(&format!("cannot be read: {}", error.kind())),
        _ => wrong("holds a malformed PEM block"),
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if certificates.is_empty() { Err(wrong("holds no PEM certificate")) } else { Ok(certificates) }
}

/// `verify-ca` and `verify-full`: the chain must lead to a root, and for the latter the name must be the host's.
#[derive(Debug)]
struct Chain {
    verifier: Arc<WebPkiServerVerifier>,
    /// Those of a file.
    roots: Vec<CertificateDer<'static>>,
    names: bool,
}

impl Chain {
    fn new(provider: Arc<CryptoProvider>, roots: Option<&SslRoots>, names: bool) -> Result<Self> {
        let mut store = RootCertStore::empty();
        let roots = match roots {
            Some(SslRoots::File(path)) => file_roots(path)?,
            Some(SslRoots::System) | None => {
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                Vec::new()
            }
        };
        for root in &roots {
            store.add(root.clone()).map_err(|_| {
                Error::config("POSTGRES_TLS_CA or sslrootcert holds what cannot be a root certificate")
            })?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build();
        let verifier = verifier.map_err(|_| {
            Error::config("there is no root certificate to verify the server with")
                .with_hint("name a PEM file in POSTGRES_TLS_CA or sslrootcert")
        })?;
        Ok(Self { verifier, roots, names })
    }

    /// Whether the server shows one of the roots itself, as what `openssl req -x509` makes, and was refused for being an
    /// authority alone.
    fn is_root(&self, shown: &CertificateDer<'_>, refused: &CertificateError) -> bool {
        // Its validity was checked before: WebPKI looks at the dates first. A test pins that.
        let for_being_one =
            matches!(refused, CertificateError::Other(why) if format!("{:?}", why.0) == "CaUsedAsEndEntity");
        for_being_one && self.roots.iter().any(|root| root.as_ref() == shown.as_ref())
    }
}

impl ServerCertVerifier for Chain {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        let trusted = || Ok(ServerCertVerified::assertion());
        match self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is checked last: an error about it means that the chain held.
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
                if !self.names =>
            {
                trusted()
            }
            Err(rustls::Error::InvalidCertificate(refused)) if self.is_root(end_entity, &refused) => {
                if self.names {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                trusted()
            }
            answer => answer,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// `prefer` and `require`: encrypted, with whoever it is.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
