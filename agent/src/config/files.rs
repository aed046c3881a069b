//! The files that a configuration names: readable, PEM, and the key nobody else's.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::findings::{Finding, Findings};
use super::place::At;
use super::placeholder;
use super::tables::IdentityTable;
use crate::platform::regular::{self, MAX_PEM_BYTES};

/// What a private key grants to group and others: nothing.
const OTHERS: u32 = 0o077;
/// systemd gives a credential to the service's user by an access list, which shows as the group's.
const OTHERS_OF_A_CREDENTIAL: u32 = 0o037;

/// Where the key really is: where the configuration says, or, for a file that this user may not open or that is
/// not there, the credential of the same name that systemd gave to the service. `credentials` is
/// `$CREDENTIALS_DIRECTORY`. One without a key in it is what the unit has for a device without that file.
pub(super) fn key(named: At<PathBuf>, credentials: Option<&Path>) -> At<PathBuf> {
    // A pipe or a device is not opened; the check says what is wrong with it.
    let is_other = fs::metadata(named.as_path()).is_ok_and(|about| !about.is_file());
    if is_other || fs::File::open(named.as_path()).is_ok() {
        return named;
    }
    let given = credentials.and_then(|directory| Some(directory.join(named.file_name()?)));
    let holds_a_key = |path: &PathBuf| {
        regular::read(path, MAX_PEM_BYTES)
            .is_ok_and(|pem| PrivateKeyDer::from_pem_slice(&pem).is_ok())
    };
    match given.filter(holds_a_key) {
        Some(credential) => named.with(credential),
        None => named,
    }
}

/// Checks certificate, key and roots. `credentials` is `$CREDENTIALS_DIRECTORY`.
pub(super) fn check(identity: &IdentityTable, credentials: Option<&Path>, findings: &mut Findings) {
    certificates(&identity.certificate, findings);
    if let Some(roots) = &identity.roots {
        certificates(roots, findings);
    }
    private_key(&identity.private_key, credentials, findings);
}

fn certificates(path: &At<PathBuf>, findings: &mut Findings) {
    let Some(pem) = read(path, findings) else { return };
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    if parsed.is_ok_and(|certificates| !certificates.is_empty()) {
        return;
    }
    let what = if PrivateKeyDer::from_pem_slice(&pem).is_ok() {
        "a private key"
    } else {
        "no certificate"
    };
    findings.push(not_pem(path, &pem, what));
}

fn private_key(path: &At<PathBuf>, credentials: Option<&Path>, findings: &mut Findings) {
    let Some(pem) = read(path, findings) else { return };
    if PrivateKeyDer::from_pem_slice(&pem).is_err() {
        let is_certificate = CertificateDer::from_pem_slice(&pem).is_ok();
        let what = if is_certificate { "a certificate" } else { "no private key" };
        findings.push(not_pem(path, &pem, what));
        return;
    }
    let is_credential = credentials.is_some_and(|directory| path.starts_with(directory));
    let refused = if is_credential { OTHERS_OF_A_CREDENTIAL } else { OTHERS };
    let Ok(metadata) = fs::metadata(path.as_path()) else { return };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & refused != 0 {
        let shown = path.display();
        let message = format!("others can use the private key `{shown}` (mode {mode:04o})");
        let fault = Finding::fault(path.span(), message);
        findings.push(fault.help(format!("chmod 0600 {shown}")));
    }
}

fn read(path: &At<PathBuf>, findings: &mut Findings) -> Option<Vec<u8>> {
    let shown = path.display();
    let problem = match regular::read(path.as_path(), MAX_PEM_BYTES) {
        Ok(bytes) => return Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            "too large for a PEM file".to_owned()
        }
        Err(error) => error.to_string(),
    };
    findings.push(Finding::fault(path.span(), format!("cannot read `{shown}`: {problem}")));
    None
}

fn not_pem(path: &At<PathBuf>, content: &[u8], what: &str) -> Finding {
    let shown = path.display();
    let text = String::from_utf8_lossy(content);
    let fault = Finding::fault(path.span(), format!("`{shown}` holds {what}"));
    match text.lines().find_map(placeholder::reason) {
        Some(mark) if !text.contains("-----END") => {
            fault.help(format!("it still holds a placeholder: {mark}"))
        }
        _ => fault.help("a PEM file starts with `-----BEGIN`"),
    }
}
