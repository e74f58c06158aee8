//! TLS 1.3 with raw public keys (RFC 7250) on both sides: whom a connection belongs to.
//!
//! There are no certificates, names, roots or dates to get wrong. Each side proves that it has the private half of a key, and
//! the other side compares that key with what it was told: the server with its authorized keys, the client with the key
//! that it knows the server by. A key that is not listed is refused inside the handshake, before a byte of ours is read
//! or written. There is no resumption and no early data, so every connection proves itself anew.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, DistinguishedName,
    ServerConfig, ServerConnection, SignatureScheme,
};

use super::keys::{AuthorizedKeys, KeyPair, PublicKey};
use crate::error::{Class, Error, Result};
use crate::sys::clock;

/// What both sides call the protocol in the handshake.
const ALPN: &[u8] = b"rlog-ship/1";
/// Bytes of encrypted output that wait in a connection at most.
pub(super) const BUFFER_BYTES: usize = 256 << 10;

/// The authorized keys, exchanged while connections live.
pub type SharedKeys = Arc<RwLock<Arc<AuthorizedKeys>>>;

/// What is authorized now.
pub fn authorized(keys: &SharedKeys) -> Arc<AuthorizedKeys> {
    Arc::clone(&keys.read().unwrap_or_else(PoisonError::into_inner))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A private key ready to sign.
pub(super) fn signing_key(key: &PrivatePkcs8KeyDer<'_>) -> Result<Arc<dyn SigningKey>> {
    rustls::crypto::ring::sign::any_eddsa_type(key).map_err(|_| Error::damage("this is no Ed25519 private key"))
}

fn certified(pair: &KeyPair) -> Result<Arc<CertifiedKey>> {
    let key = signing_key(&pair.pkcs8())?;
    Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(pair.public().to_spki())], key)))
}

fn broken(error: rustls::Error) -> Error {
    Error::new(Class::Bug, format!("TLS cannot be set up: {error}"))
}

/// The server's side.
pub fn server_config(pair: &KeyPair, keys: &SharedKeys) -> Result<Arc<ServerConfig>> {
    let verifier = Arc::new(Clients { keys: Arc::clone(keys), provider: provider() });
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(broken)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(pair)?)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// The client's side; `server` is the keys of which the server must have one.
pub fn client_config(pair: &KeyPair, server: Vec<PublicKey>) -> Result<Arc<ClientConfig>> {
    let verifier = Arc::new(Server { keys: server, provider: provider() });
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(broken)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(pair)?)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// A connection of a client.
pub(super) fn client(config: &Arc<ClientConfig>) -> Result<rustls::Connection> {
    // The key is what counts; no name is sent.
    let name = ServerName::try_from("rlog-ship").map_err(|error| Error::new(Class::Bug, error.to_string()))?;
    let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(broken)?;
    connection.set_buffer_limit(Some(BUFFER_BYTES));
    Ok(connection.into())
}

/// A connection of a server.
pub(super) fn server(config: &Arc<ServerConfig>) -> Result<rustls::Connection> {
    let mut connection = ServerConnection::new(Arc::clone(config)).map_err(broken)?;
    connection.set_buffer_limit(Some(BUFFER_BYTES));
    Ok(connection.into())
}

/// Whose connection it is, once the handshake is done and the protocol agreed.
pub(super) fn peer(connection: &rustls::Connection) -> Option<PublicKey> {
    if connection.alpn_protocol() != Some(ALPN) {
        return None;
    }
    PublicKey::from_spki(connection.peer_certificates()?.first()?.as_ref())
}

/// What an error of the handshake means to a client. `ours` is its public key, `known` whether any key of the server was known.
pub(super) fn client_error(error: &rustls::Error, server: &str, ours: &PublicKey) -> Error {
    use rustls::Error as Tls;
    match error {
        Tls::AlertReceived(AlertDescription::AccessDenied | AlertDescription::CertificateUnknown) => {
            Error::new(Class::Permission, "the server does not let this key in")
                .in_file(server)
                .hint(format!("add this line to the server's authorized keys, then send it SIGHUP: {ours}"))
        }
        Tls::InvalidCertificate(CertificateError::Other(other)) => match other.0.downcast_ref::<Stranger>() {
            Some(Stranger { key, known: false }) => Error::new(Class::Permission, "this server is not known")
                .in_file(server)
                .hint(format!("if its key is right, add this line to the known servers: {server} {key}")),
            Some(Stranger { key, known: true }) => Error::new(
                Class::Permission,
                "the server has another key than the one it is known by: someone may be in between",
            )
            .in_file(server)
            .hint(format!("if it was exchanged on purpose, the line in the known servers becomes: {server} {key}")),
            None => Error::new(Class::Permission, error.to_string()).in_file(server),
        },
        Tls::InvalidMessage(_) | Tls::InappropriateMessage { .. } => {
            Error::new(Class::TryAgain, "the other side does not speak TLS as rlog-ship does")
                .in_file(server)
                .hint("is this the port of `rlog-ship serve`?")
        }
        other => Error::new(Class::TryAgain, format!("TLS: {other}")).in_file(server),
    }
}

/// A server whose key is not the one that was expected.
#[derive(Clone, Copy, Debug)]
struct Stranger {
    key: PublicKey,
    known: bool,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown key {}", self.key)
    }
}

impl std::error::Error for Stranger {}

/// Which clients come in.
#[derive(Debug)]
struct Clients {
    keys: SharedKeys,
    provider: Arc<CryptoProvider>,
}

/// Which server is the right one.
#[derive(Debug)]
struct Server {
    keys: Vec<PublicKey>,
    provider: Arc<CryptoProvider>,
}

const NO_KEY: rustls::Error = rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
const REFUSED: rustls::Error = rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
const TLS_12: &str = "TLS 1.2 is not spoken";

fn verify_signature(
    provider: &CryptoProvider,
    message: &[u8],
    key: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let key = SubjectPublicKeyInfoDer::from(key.as_ref());
    rustls::crypto::verify_tls13_signature_with_raw_key(
        message,
        &key,
        signature,
        &provider.signature_verification_algorithms,
    )
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let key = PublicKey::from_spki(end_entity).ok_or(NO_KEY)?;
        match authorized(&self.keys).grant(&key) {
            Some(grant) if !grant.is_expired(clock::now_us()) => Ok(ClientCertVerified::assertion()),
            _ => Err(REFUSED),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General(TLS_12.into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_signature(&self.provider, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ServerCertVerifier for Server {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let key = PublicKey::from_spki(end_entity).ok_or(NO_KEY)?;
        if self.keys.contains(&key) {
            return Ok(ServerCertVerified::assertion());
        }
        let stranger = Stranger { key, known: !self.keys.is_empty() };
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::new(stranger)))))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General(TLS_12.into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_signature(&self.provider, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
