//! Certificate and private key of this device, and the checks of their files: readable, PEM, and
//! the key closed to other users.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::findings::Finding;
use crate::config::placeholder;
use crate::platform::regular::{self, MAX_PEM_BYTES};

/// Rights to a private key that group and others must not have.
const OTHERS: u32 = 0o077;
/// The same for a credential of systemd: the service's user has access by an access list, which
/// shows as a right of the group.
const OTHERS_OF_A_CREDENTIAL: u32 = 0o037;

/// Certificate and private key of this device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// PEM file of the device certificate, such as `/etc/pulsegate/device.pem.crt`.
    #[schemars(length(min = 1))]
    pub certificate: PathBuf,
    /// PEM file of the private key of `certificate`, such as `/etc/pulsegate/device.pem.key`. A
    /// file that group or others may access is a fault: use `chmod 0600`. If the agent cannot open
    /// the file, a systemd credential of the same file name takes its place.
    #[schemars(length(min = 1))]
    pub private_key: PathBuf,
    /// PEM file of certificate authorities, for a broker other than AWS IoT Core. Default: the
    /// built-in Amazon roots.
    #[schemars(length(min = 1))]
    pub roots: Option<PathBuf>,
}

impl Identity {
    /// Replaces a private key that is missing, or that this user may not open, by the systemd
    /// credential with the same file name. `credentials` is `$CREDENTIALS_DIRECTORY`. A credential
    /// without a key is ignored: it is the unit's default for a device without the file.
    pub(in crate::config) fn find_key(&mut self, credentials: Option<&Path>) {
        let named = &self.private_key;
        // A pipe or a device is not opened; the check says what is wrong with it.
        let is_other = fs::metadata(named).is_ok_and(|about| !about.is_file());
        if is_other || fs::File::open(named).is_ok() {
            return;
        }
        let given = credentials.and_then(|directory| Some(directory.join(named.file_name()?)));
        let holds_a_key = |path: &PathBuf| {
            regular::read_file(path, MAX_PEM_BYTES)
                .is_ok_and(|pem| PrivateKeyDer::from_pem_slice(&pem).is_ok())
        };
        if let Some(credential) = given.filter(holds_a_key) {
            self.private_key = credential;
        }
    }

    /// Checks certificate, key and roots. `credentials` is `$CREDENTIALS_DIRECTORY`.
    pub(in crate::config) fn check_files(&self, credentials: Option<&Path>) -> Vec<Finding> {
        let roots = self.roots.as_deref();
        let faults = [
            check_certificates(&self.certificate, "identity.certificate"),
            roots.map_or(Ok(()), |roots| check_certificates(roots, "identity.roots")),
            check_key(&self.private_key, credentials),
        ];
        faults.into_iter().filter_map(Result::err).map(|fault| *fault).collect()
    }
}

fn check_certificates(path: &Path, key: &str) -> Result<(), Box<Finding>> {
    let pem = read_pem(path, key)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    if parsed.is_ok_and(|certificates| !certificates.is_empty()) {
        return Ok(());
    }
    let is_key = PrivateKeyDer::from_pem_slice(&pem).is_ok();
    let content = if is_key { "a private key" } else { "no certificate" };
    Err(Box::new(wrong_content(path, key, &pem, content)))
}

fn check_key(path: &Path, credentials: Option<&Path>) -> Result<(), Box<Finding>> {
    let key = "identity.private_key";
    let pem = read_pem(path, key)?;
    if PrivateKeyDer::from_pem_slice(&pem).is_err() {
        let is_certificate = CertificateDer::from_pem_slice(&pem).is_ok();
        let content = if is_certificate { "a certificate" } else { "no private key" };
        return Err(Box::new(wrong_content(path, key, &pem, content)));
    }
    let is_credential = credentials.is_some_and(|directory| path.starts_with(directory));
    let refused = if is_credential { OTHERS_OF_A_CREDENTIAL } else { OTHERS };
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & refused == 0 {
        return Ok(());
    }
    let shown = path.display();
    let message = format!("others can use the private key `{shown}` (mode {mode:04o})");
    Err(Box::new(Finding::fault(key, message).help(format!("chmod 0600 {shown}"))))
}

fn read_pem(path: &Path, key: &str) -> Result<Vec<u8>, Box<Finding>> {
    regular::read_file(path, MAX_PEM_BYTES).map_err(|error| {
        let reason = if error.kind() == io::ErrorKind::FileTooLarge {
            "too large for a PEM file".to_owned()
        } else {
            error.to_string()
        };
        Box::new(Finding::fault(key, format!("cannot read `{}`: {reason}", path.display())))
    })
}

/// Returns the fault of a file that has `content` instead of the content that the key requires.
fn wrong_content(path: &Path, key: &str, pem: &[u8], content: &str) -> Finding {
    let text = String::from_utf8_lossy(pem);
    let fault = Finding::fault(key, format!("`{}` holds {content}", path.display()));
    match text.lines().find_map(placeholder::reason) {
        Some(mark) if !text.contains("-----END") => {
            fault.help(format!("it still holds a placeholder: {mark}"))
        }
        _ => fault.help("a PEM file starts with `-----BEGIN`"),
    }
}
