//! Whose certificates are believed: everyone's (`preferred`, `required`), those that an authority vouches for (`verify-ca`), or of those only the one
//! made out for the host that was asked for (`verify-identity`).

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, RootCertStore};

use super::connect::Tls;
use super::url::SslMode;
use crate::error::{Error, Result};

/// Who is believed: everyone, or those whom an authority vouches for whatever their name.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a client asks of a server by this mode.
pub(super) fn config(tls: &Tls, mode: SslMode) -> Result<ClientConfig> {
    let wrong = |what: String| Error::config(format!("TLS: {what}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match mode {
        SslMode::Disabled | SslMode::Preferred | SslMode::Required => {
            Arc::new(Lenient { chain: None, provider: Arc::clone(&provider) })
        }
        SslMode::VerifyCa | SslMode::VerifyIdentity => {
            let mut roots = RootCertStore::empty();
            match &tls.ca {
                Some(path) => {
                    let pem = |error| wrong(format!("{}: {error}", path.display()));
                    for certificate in CertificateDer::pem_file_iter(path).map_err(pem)? {
                        roots.add(certificate.map_err(pem)?).map_err(|error| wrong(error.to_string()))?;
                    }
                }
                None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
            }
            let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| wrong(error.to_string()))?;
            match mode {
                SslMode::VerifyCa => Arc::new(Lenient { chain: Some(chain), provider: Arc::clone(&provider) }),
                _ => chain,
            }
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match &tls.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let pem = |path: &std::path::Path, error: String| wrong(format!("{}: {error}", path.display()));
            let chain = CertificateDer::pem_file_iter(certificate)
                .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
                .map_err(|error| pem(certificate, error.to_string()))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| pem(key, error.to_string()))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| wrong(error.to_string()))
        }
    }
}
