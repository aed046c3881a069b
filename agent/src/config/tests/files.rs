//! The files that a configuration names.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::config::findings::Report;
use crate::config::{Identity, examine, load, tables};

/// A directory with a configuration, a certificate and its key.
struct Device(TempDir);

impl Device {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["pi-1".to_owned()]).unwrap();
        let device = Self(TempDir::new().unwrap());
        device.write("c.pem", made.cert.pem(), 0o644);
        device.write("k.pem", made.signing_key.serialize_pem(), 0o600);
        let config = format!(
            "thing = \"pi-1\"\nendpoint = \"abc\"\n[identity]\ncertificate = \"{}\"\nprivate_key = \"{}\"\n",
            device.path("c.pem"),
            device.path("k.pem"),
        );
        device.write("pulsegate.toml", config, 0o644);
        device
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) {
        fs::write(self.path(name), content).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn report(&self) -> Report {
        examine(Path::new(&self.path("pulsegate.toml")), |_| Vec::new())
    }

    /// As the only fault is drawn.
    #[track_caller]
    fn fault(&self) -> String {
        let report = self.report();
        assert_eq!(report.faults(), 1, "{}", report.render(false));
        report.render(false)
    }
}

#[test]
fn a_certificate_and_a_key_of_ones_own_pass() {
    let device = Device::new();

    let loaded = load(Path::new(&device.path("pulsegate.toml")));

    assert_eq!(loaded.unwrap().0.thing, "pi-1");
}

#[test]
fn a_key_that_others_can_use_is_refused_with_the_command_that_mends_it() {
    for mode in [0o640, 0o604, 0o660, 0o644, 0o610] {
        let device = Device::new();
        let key = device.path("k.pem");
        fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();

        let fault = device.fault();

        assert!(
            fault.contains(&format!("others can use the private key `{key}` (mode {mode:04o})")),
            "{fault}"
        );
        assert!(fault.contains(&format!("help: chmod 0600 {key}")), "{fault}");
    }
}

#[test]
fn a_credential_of_systemd_shows_its_access_list_as_the_groups_rights() {
    let device = Device::new();
    let faults = |mode: u32, credentials: &Path| {
        fs::set_permissions(device.path("k.pem"), Permissions::from_mode(mode)).unwrap();
        let text = fs::read_to_string(device.path("pulsegate.toml")).unwrap();
        let tables: tables::Tables = toml::from_str(&text).unwrap();
        tables.identity.check_files(Some(credentials)).len()
    };

    assert_eq!(faults(0o440, device.0.path()), 0);
    assert_eq!(faults(0o400, device.0.path()), 0);
    assert_eq!(faults(0o444, device.0.path()), 1);
    assert_eq!(faults(0o440, Path::new("/run/credentials/other")), 1);
}

/// P12: the key on the card may be root's alone.
#[test]
fn a_key_that_cannot_be_opened_is_looked_for_among_the_credentials() {
    let device = Device::new();
    let credentials = TempDir::new().unwrap();
    let credential = credentials.path().join("k.pem");
    let named = || PathBuf::from(device.path("k.pem"));
    let find = |credentials: Option<&Path>| {
        let (certificate, private_key) = (PathBuf::new(), named());
        let mut identity = Identity { certificate, private_key, roots: None };
        identity.find_key(credentials);
        identity.private_key
    };
    let found = || find(Some(credentials.path()));

    assert_eq!(found(), named(), "there is no credential");
    fs::copy(device.path("k.pem"), &credential).unwrap();
    assert_eq!(found(), named(), "the file itself comes first: it may be newer");
    fs::remove_file(device.path("k.pem")).unwrap();
    assert_eq!(found(), credential);
    assert_eq!(find(None), named());
    fs::write(&credential, "none").unwrap();
    assert_eq!(found(), named(), "what the unit has where there is no file");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let device = Device::new();
    fs::remove_file(device.path("c.pem")).unwrap();

    let fault = device.fault();

    assert!(
        fault.contains(&format!("cannot read `{}`: No such file", device.path("c.pem"))),
        "{fault}"
    );
    assert!(fault.contains("pulsegate.toml:4:15"), "{fault}");
}

#[test]
fn certificate_and_key_are_not_taken_for_each_other() {
    let device = Device::new();
    let key = fs::read(device.path("k.pem")).unwrap();
    let certificate = fs::read(device.path("c.pem")).unwrap();
    device.write("c.pem", key, 0o600);
    device.write("k.pem", certificate, 0o600);

    let drawn = device.report().render(false);

    assert!(drawn.contains("c.pem` holds a private key"), "{drawn}");
    assert!(drawn.contains("k.pem` holds a certificate"), "{drawn}");
}

#[test]
fn a_placeholder_in_the_place_of_a_certificate_is_named() {
    let device = Device::new();
    device.write("c.pem", "REPLACE_ME with the certificate\n", 0o644);

    let fault = device.fault();

    assert!(fault.contains("c.pem` holds no certificate"), "{fault}");
    assert!(fault.contains("it still holds a placeholder: `REPLACE_ME`"), "{fault}");
}

#[test]
fn garbage_is_no_pem() {
    let device = Device::new();
    device.write("k.pem", [0xFF, 0x00, 0x2D], 0o600);
    device.write("c.pem", "-----BEGIN CERTIFICATE-----\nbm8=\n", 0o600);

    assert_eq!(device.report().faults(), 2);
}

#[test]
fn a_directory_is_no_key() {
    let device = Device::new();
    fs::remove_file(device.path("k.pem")).unwrap();
    fs::create_dir(device.path("k.pem")).unwrap();

    assert!(device.fault().contains("k.pem`: not a regular file"));
}

#[test]
fn a_configuration_that_is_not_there_is_a_fault() {
    let report = examine(Path::new("/nowhere/pulsegate.toml"), |_| Vec::new());

    assert_eq!(report.faults(), 1);
    assert!(report.render(false).contains("cannot read: No such file"));
}

#[test]
fn a_configuration_that_is_not_text_says_where() {
    let device = Device::new();
    device.write("pulsegate.toml", b"thing = \"pi-1\"\n# caf\xE9\n", 0o644);

    assert!(device.fault().contains("error: not UTF-8\n --> "), "{}", device.fault());
    assert!(device.fault().contains("pulsegate.toml:2:6"), "{}", device.fault());
}
