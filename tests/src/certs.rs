//! Certificates in files, for programs that take paths: one authority for each test, and whatever it
//! signs.

use std::cell::Cell;
use std::path::{Path, PathBuf};

pub use pulsegate_standin::pki::{Identity, IdentityFiles, Pki, Validity};
use tempfile::TempDir;

/// What the broker's certificate is for; clients have to call it so.
pub const HOST: &str = "localhost";

/// An authority with its files; they go away with it.
#[derive(Debug)]
pub struct Certs {
    dir: TempDir,
    pki: Pki,
    issued: Cell<u32>,
}

/// A certificate with its key, in memory and in files.
#[derive(Debug, Clone)]
pub struct Issued {
    /// What a revocation list names.
    pub identity: Identity,
    /// Where certificate and key are.
    pub files: IdentityFiles,
}

impl Certs {
    /// Makes an authority that nothing else trusts.
    #[expect(clippy::new_without_default, reason = "it writes files")]
    #[must_use]
    pub fn new() -> Self {
        let dir = TempDir::with_prefix("pulsegate-certs-").expect("a temporary directory");
        let pki = Pki::new().expect("an authority");
        pki.write_ca_to(&dir.path().join("ca.crt")).expect("writes the authority's certificate");
        Self { dir, pki, issued: Cell::new(0) }
    }

    /// The file of the authority's certificate: what the other side has to trust.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    /// The authority itself, for a stand-in.
    #[must_use]
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Issues a broker's certificate for [`HOST`] and 127.0.0.1.
    #[must_use]
    pub fn broker(&self) -> Issued {
        self.server(&[HOST, "127.0.0.1"], Validity::Current)
    }

    /// Issues a server's certificate.
    #[must_use]
    pub fn server(&self, names: &[&str], validity: Validity) -> Issued {
        self.write(self.pki.server_with(names, validity).expect("a server's certificate"))
    }

    /// Issues a device's certificate, valid today.
    #[must_use]
    pub fn device(&self, thing: &str) -> Issued {
        self.device_with(thing, Validity::Current)
    }

    /// Issues a device's certificate.
    #[must_use]
    pub fn device_with(&self, thing: &str, validity: Validity) -> Issued {
        self.write(self.pki.device_with(thing, validity).expect("a device's certificate"))
    }

    /// Writes a revocation list of these certificates, or an empty one, and returns its file.
    #[must_use]
    pub fn revocation_list(&self, revoked: &[&Issued]) -> PathBuf {
        let revoked: Vec<&Identity> = revoked.iter().map(|issued| &issued.identity).collect();
        let list = self.pki.revocation_list(&revoked).expect("a revocation list");
        let path = self.next_dir().join("revoked.crl");
        write(&path, &list);
        path
    }

    fn write(&self, identity: Identity) -> Issued {
        let files = identity.write_to(&self.next_dir(), "issued").expect("writes a certificate");
        Issued { identity, files }
    }

    /// A directory for each, so that two certificates of one name do not overwrite each other.
    fn next_dir(&self) -> PathBuf {
        self.issued.set(self.issued.get() + 1);
        let dir = self.dir.path().join(self.issued.get().to_string());
        std::fs::create_dir(&dir).expect("a new directory");
        dir
    }
}

/// Writes a file that need not survive a power cut.
#[expect(clippy::disallowed_methods, reason = "a test's file need not be durable")]
pub(crate) fn write(path: &Path, text: &str) {
    if let Err(error) = std::fs::write(path, text) {
        panic!("cannot write `{}`: {error}", path.display());
    }
}
