//! Development certificates: an authority, and the server and device identities that it signs.
//!
//! Everything lives in memory until it is written out; private keys are only ever written readable
//! by their owner. Good certificates are valid from 2020 to 2049, so that neither a wrong clock nor
//! this crate has to be asked for the time. The odd ones (expired, not yet valid, revoked, signed by
//! another authority) exist to be refused. Nothing here is fit to protect a real device.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    Error, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

const OWNER_ONLY: u32 = 0o600;
const ANYONE_READS: u32 = 0o644;

/// A development certificate authority. Every one has a key and a name of its own, so a certificate
/// from one is a stranger's to another.
#[derive(Debug, Clone)]
pub struct Pki {
    authority: Arc<CertifiedIssuer<'static, KeyPair>>,
}

/// A certificate and its private key, for a server or a device.
#[derive(Clone)]
pub struct Identity {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Its private key, PKCS#8 PEM. Never log it.
    pub private_key_pem: String,
    serial: SerialNumber,
}

/// Where [`Identity::write_to`] put the two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate, readable by all.
    pub certificate: PathBuf,
    /// The private key, readable by its owner only.
    pub private_key: PathBuf,
}

/// When a certificate is valid, as seen from any plausible today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// From 2020 to 2049.
    Current,
    /// Until 2021.
    Expired,
    /// From 2048 on.
    NotYetValid,
}

impl Pki {
    /// Makes an authority with a fresh P-256 key.
    ///
    /// # Errors
    /// The system's random source failed.
    pub fn new() -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = params(Vec::new(), Validity::Current)?;
        let short: String =
            params.key_identifier(&key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("pulsegate development CA {short}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self { authority: Arc::new(CertifiedIssuer::self_signed(params, key)?) })
    }

    /// The authority's own certificate, PEM: what the other side has to trust.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.authority.pem()
    }

    /// Makes a server's identity for `names`, host names or IP addresses.
    ///
    /// # Errors
    /// A name is not a valid one.
    pub fn server(&self, names: &[&str]) -> Result<Identity, Error> {
        self.server_with(names, Validity::Current)
    }

    /// Like [`Pki::server`], with a chosen validity.
    ///
    /// # Errors
    /// A name is not a valid one.
    pub fn server_with(&self, names: &[&str], validity: Validity) -> Result<Identity, Error> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let common_name = names.first().cloned().unwrap_or_default();
        self.issue(params(names, validity)?, &common_name, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Makes a device's identity: P-256, common name `thing`, for client authentication only.
    ///
    /// # Errors
    /// The system's random source failed.
    pub fn device(&self, thing: &str) -> Result<Identity, Error> {
        self.device_with(thing, Validity::Current)
    }

    /// Like [`Pki::device`], with a chosen validity.
    ///
    /// # Errors
    /// The system's random source failed.
    pub fn device_with(&self, thing: &str, validity: Validity) -> Result<Identity, Error> {
        self.issue(params(Vec::new(), validity)?, thing, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// Makes a revocation list, PEM, of these identities, or an empty one.
    ///
    /// # Errors
    /// Signing failed.
    pub fn revocation_list(&self, revoked: &[&Identity]) -> Result<String, Error> {
        let revoked_certs = revoked.iter().map(|identity| RevokedCertParams {
            serial_number: identity.serial.clone(),
            revocation_time: date_time_ymd(2020, 1, 2),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 2),
            next_update: date_time_ymd(2049, 12, 31),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&**self.authority)?.pem()
    }

    /// Writes the authority's certificate to `path`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_ca_to(&self, path: &Path) -> io::Result<()> {
        write(path, &self.ca_pem(), ANYONE_READS)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        common_name: &str,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity, Error> {
        let key = KeyPair::generate()?;
        let serial = serial(&params, &key);
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial.clone());
        let certificate = params.signed_by(&key, &**self.authority)?;
        Ok(Identity {
            certificate_pem: certificate.pem(),
            private_key_pem: key.serialize_pem(),
            serial,
        })
    }
}

impl Identity {
    /// Writes `<stem>.pem.crt` and `<stem>.pem.key` into `dir`, which must exist.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_to(&self, dir: &Path, stem: &str) -> io::Result<IdentityFiles> {
        let files = IdentityFiles {
            certificate: dir.join(format!("{stem}.pem.crt")),
            private_key: dir.join(format!("{stem}.pem.key")),
        };
        write(&files.private_key, &self.private_key_pem, OWNER_ONLY)?;
        write(&files.certificate, &self.certificate_pem, ANYONE_READS)?;
        Ok(files)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("serial", &self.serial).finish_non_exhaustive()
    }
}

fn params(names: Vec<String>, validity: Validity) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    (params.not_before, params.not_after) = match validity {
        Validity::Current => (date_time_ymd(2020, 1, 1), date_time_ymd(2049, 12, 31)),
        Validity::Expired => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
        Validity::NotYetValid => (date_time_ymd(2048, 1, 1), date_time_ymd(2049, 12, 31)),
    };
    Ok(params)
}

/// Taken from the key, so that it is unique without a counter to keep. RFC 5280, 4.1.2.2: positive,
/// at most 20 octets.
fn serial(params: &CertificateParams, key: &KeyPair) -> SerialNumber {
    let mut octets = vec![1];
    octets.extend(params.key_identifier(key).iter().take(16));
    SerialNumber::from_slice(&octets)
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?; // the file may have been there before
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn subject_and_dates(pem: &str) -> (String, i64, i64) {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let validity = certificate.validity();
        (
            certificate.subject().to_string(),
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        )
    }

    #[test]
    fn writes_the_private_key_for_its_owner_only_even_over_an_open_file() {
        let dir = std::env::temp_dir().join(format!("pulsegate-pki-{}", fastrand::u64(..)));
        std::fs::create_dir(&dir).unwrap();
        write(&dir.join("box.pem.key"), "open", ANYONE_READS).unwrap();

        let files = Pki::new().unwrap().device("box").unwrap().write_to(&dir, "box").unwrap();

        assert_eq!(mode_of(&files.private_key), OWNER_ONLY);
        assert_eq!(mode_of(&files.certificate), ANYONE_READS);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn names_the_thing_and_dates_the_odd_ones_outside_today() {
        let pki = Pki::new().unwrap();
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let now = i64::try_from(now).unwrap();

        let (subject, _, _) = subject_and_dates(&pki.device("box").unwrap().certificate_pem);
        let expired = pki.device_with("box", Validity::Expired).unwrap();
        let (_, _, expired_at) = subject_and_dates(&expired.certificate_pem);
        let early = pki.server_with(&["localhost"], Validity::NotYetValid).unwrap();
        let (_, early_from, _) = subject_and_dates(&early.certificate_pem);

        assert_eq!(subject, "CN=box");
        assert!(expired_at < now);
        assert!(early_from > now);
    }

    #[test]
    fn a_debug_print_does_not_show_the_private_key() {
        let identity = Pki::new().unwrap().device("box").unwrap();

        assert!(!format!("{identity:?}").contains("PRIVATE"));
    }
}
