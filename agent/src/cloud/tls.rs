//! TLS: the client identity, the trusted authorities, and explanations of failed handshakes.
//!
//! The provider is ring. Two client configurations share one identity: MQTT on port 443 asks for
//! `x-amzn-mqtt-ca` by ALPN, and all others (MQTT on 8883, HTTPS) must not. Server name indication
//! is always sent. Only the certificate verifier reads the clock.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustls::crypto::ring;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Identity;
use crate::platform::regular::{self, MAX_PEM_BYTES};

/// AWS IoT Core, protocols: MQTT with a client certificate on port 443.
const ALPN_MQTT: &[u8] = b"x-amzn-mqtt-ca";

/// The authorities that sign AWS IoT endpoints. Their hashes are in certs/README.md.
const AMAZON_ROOTS: [&[u8]; 4] = [
    include_bytes!("../../../certs/amazon/Amazon_Root_CA_1.pem"),
    include_bytes!("../../../certs/amazon/Amazon_Root_CA_2.pem"),
    include_bytes!("../../../certs/amazon/Amazon_Root_CA_3.pem"),
    include_bytes!("../../../certs/amazon/Amazon_Root_CA_4.pem"),
];

/// TLS configurations for the two kinds of connection.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    /// For MQTT on a port shared with HTTPS.
    pub(crate) mqtt_alpn: Arc<ClientConfig>,
    /// For MQTT on a port of its own and for HTTPS, without ALPN.
    pub(crate) plain: Arc<ClientConfig>,
}

/// Reads certificate, key and roots.
///
/// # Errors
/// When a file cannot be read or used; the error names the file.
pub(crate) fn load_clients(identity: &Identity) -> anyhow::Result<Clients> {
    let provider = Arc::new(ring::default_provider());
    let chain = read_certificates(&identity.certificate)?;
    let unreadable = || format!("cannot read the key `{}`", identity.private_key.display());
    let key = regular::read_file(&identity.private_key, MAX_PEM_BYTES).with_context(unreadable)?;
    let key = PrivateKeyDer::from_pem_slice(&key).with_context(unreadable)?;
    let mismatch = || {
        let (certificate, key) = (identity.certificate.display(), identity.private_key.display());
        format!("the certificate `{certificate}` and the key `{key}` do not belong together")
    };
    let plain = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot set up TLS")?
        .with_root_certificates(load_roots(identity.roots.as_deref())?)
        .with_client_auth_cert(chain, key)
        .with_context(mismatch)?;
    let mut mqtt_alpn = plain.clone();
    mqtt_alpn.alpn_protocols = vec![ALPN_MQTT.to_vec()];
    Ok(Clients { mqtt_alpn: Arc::new(mqtt_alpn), plain: Arc::new(plain) })
}

fn load_roots(instead: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match instead {
        Some(path) => {
            for certificate in read_certificates(path)? {
                roots
                    .add(certificate)
                    .with_context(|| format!("`{}` holds no authority", path.display()))?;
            }
        }
        None => {
            for pem in AMAZON_ROOTS {
                let certificate = CertificateDer::from_pem_slice(pem).context("a built-in root")?;
                roots.add(certificate).context("a built-in root")?;
            }
        }
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let unreadable = || format!("cannot read the certificate `{}`", path.display());
    let pem = regular::read_file(path, MAX_PEM_BYTES).with_context(unreadable)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .with_context(unreadable)?;
    if chain.is_empty() {
        bail!("`{}` holds no certificate", path.display());
    }
    Ok(chain)
}

/// Returns an explanation of a failed handshake, and whether an early retry could help.
pub(crate) fn explain_handshake(error: &rustls::Error, clock_is_set: bool) -> (String, Retry) {
    let clock = if clock_is_set { "" } else { "; the clock is not set yet" };
    #[expect(clippy::wildcard_enum_match_arm, reason = "TLS has some hundred ways to fail")]
    let text = match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer => {
                "the broker's certificate is signed by an authority that is not trusted here".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                let text = format!("the broker's certificate is not valid yet{clock}");
                return (text, if clock_is_set { Retry::Later } else { Retry::Soon });
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                let text = format!("the broker's certificate has expired{clock}");
                return (text, if clock_is_set { Retry::Later } else { Retry::Soon });
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the broker's certificate is for another host name".into()
            }
            CertificateError::Revoked => "the broker's certificate is revoked".into(),
            other => format!("the broker's certificate is not valid: {other}"),
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateExpired => {
                "the broker says that this device's certificate has expired".into()
            }
            AlertDescription::CertificateRevoked => {
                "the broker says that this device's certificate is revoked".into()
            }
            AlertDescription::UnknownCA | AlertDescription::BadCertificate => {
                "the broker does not accept this device's certificate".into()
            }
            AlertDescription::CertificateUnknown | AlertDescription::AccessDenied => {
                "the broker does not know this device's certificate".into()
            }
            AlertDescription::CertificateRequired => {
                "the broker wants a certificate and got none".into()
            }
            AlertDescription::NoApplicationProtocol => {
                "the broker does not speak MQTT on this port".into()
            }
            other => format!("the broker ended the handshake: {other:?}"),
        },
        rustls::Error::NoApplicationProtocol => {
            "the broker does not speak MQTT on this port".into()
        }
        other => format!("TLS failed: {other}"),
    };
    (text, Retry::Later)
}

/// Urgency of a retry after a failed handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// The failure is likely to pass within moments.
    Soon,
    /// The failure lasts until somebody acts.
    Later,
}
