//! The two sides of mutual TLS, over ring: the stand-in's own, and a client's for tests.
//!
//! Every connection is a full handshake, as with the service: no tickets, no resumption.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::pki::Identity;

/// The application protocol that stands for MQTT on port 443.
pub const ALPN_MQTT: &str = "x-amzn-mqtt-ca";

/// Why a TLS configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate, key or revocation list is not PEM.
    #[error("cannot read the PEM")]
    Pem(#[from] pem::Error),
    /// The parts do not fit together.
    #[error("cannot use the certificate")]
    Rustls(#[from] rustls::Error),
    /// The client authority or the revocation list cannot be used.
    #[error("cannot verify clients")]
    Verifier(#[from] VerifierBuilderError),
}

/// Makes a server's side that demands a certificate of `client_ca_pem` from every client, and
/// refuses the ones on the revocation list.
pub(crate) fn server_config(
    identity: &Identity,
    client_ca_pem: &str,
    revocation_list_pem: Option<&str>,
    alpn: Option<&str>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let lists = revocation_list_pem
        .map(|pem| CertificateRevocationListDer::from_pem_slice(pem.as_bytes()))
        .transpose()?;
    let mut verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots(client_ca_pem)?),
        Arc::clone(&provider),
    );
    if lists.is_some() {
        verifier = verifier.with_crls(lists).only_check_end_entity_revocation();
    }
    let (chain, key) = chain_and_key(identity)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(chain, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = protocols(alpn);
    Ok(Arc::new(config))
}

/// Makes a client's side that trusts `ca_pem` and shows `identity`, if any.
///
/// # Errors
/// A PEM text is none, or certificate and key do not belong together.
pub fn client_config(
    ca_pem: &str,
    identity: Option<&Identity>,
    alpn: Option<&str>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca_pem)?);
    let mut config = match identity {
        Some(identity) => {
            let (chain, key) = chain_and_key(identity)?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols(alpn);
    Ok(config)
}

fn roots(ca_pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

fn chain_and_key(
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes())
        .collect::<Result<_, _>>()?;
    Ok((chain, PrivateKeyDer::from_pem_slice(identity.private_key_pem.as_bytes())?))
}

fn protocols(alpn: Option<&str>) -> Vec<Vec<u8>> {
    alpn.map(|protocol| protocol.as_bytes().to_vec()).into_iter().collect()
}
