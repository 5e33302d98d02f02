//! What libpq means by `sslmode`, over rustls.

use std::{path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use storage_core::{Error, Result};

use crate::config::{SslMode, SslRoots};

/// The TLS setup for `mode`; reads the root certificates.
pub(super) fn client_config(mode: SslMode, roots: Option<&SslRoots>) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|_| Error::config("TLS could not be set up"))?
        .dangerous();
    let verifier: Arc<dyn ServerCertVerifier> = match (mode, roots) {
        // As libpq: with a root certificate at hand `require` means `verify-ca`.
        (SslMode::VerifyCa, _) | (SslMode::Require, Some(_)) => {
            Arc::new(AnyName(chain_verifier(provider, roots)?))
        }
        (SslMode::VerifyFull, _) => chain_verifier(provider, roots)?,
        _ => Arc::new(AnyCertificate(provider)),
    };
    Ok(builder.with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn chain_verifier(
    provider: Arc<CryptoProvider>,
    roots: Option<&SslRoots>,
) -> Result<Arc<WebPkiServerVerifier>> {
    let store = match roots {
        Some(SslRoots::File(path)) => file_roots(path)?,
        Some(SslRoots::System) | None => system_roots(),
    };
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build().map_err(|_| {
        Error::config("there is no root certificate to verify the server with")
            .with_hint("name a PEM file in sslrootcert")
    })
}

fn file_roots(path: &Path) -> Result<RootCertStore> {
    let wrong = |what: &str| Error::config(format!("sslrootcert `{}` {what}", path.display()));
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|_| wrong("cannot be read as a file of PEM blocks"))?;
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|_| wrong("holds a malformed PEM block"))?;
        store.add(certificate).map_err(|_| wrong("holds a certificate that cannot be a root"))?;
    }
    if store.is_empty() { Err(wrong("holds no certificate")) } else { Ok(store) }
}

fn system_roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}

/// `verify-ca`: the chain must hold, the name need not.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is checked last: an error about it means that the chain held.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            answer => answer,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
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
