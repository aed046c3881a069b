//! What lies in `certs/`: Amazon's roots, the device policy, and the script for development.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

/// SHA-256 of the DER form of Amazon Root CA 1 to 4, as Amazon publishes them.
const AMAZON_ROOTS: [&str; 4] = [
    "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e",
    "1ba5b2aa8c65401a82960118f80bec4f62304d83cec4713a19c39c011ea46db4",
    "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4",
    "e35d28419ed02025cfa69038cd623962458da5c695fbdea3c22b0bfb25897092",
];

/// AWS counts at most so many characters of a policy, white space left out.
const MAX_POLICY_CHARACTERS: usize = 2048;

#[test]
fn amazons_roots_are_the_published_ones() {
    let readme = std::fs::read_to_string(certs().join("README.md")).unwrap();

    for (number, expected) in (1..).zip(AMAZON_ROOTS) {
        let path = certs().join(format!("amazon/Amazon_Root_CA_{number}.pem"));
        let certificates: Vec<_> =
            CertificateDer::pem_file_iter(path).unwrap().collect::<Result<_, _>>().unwrap();

        assert_eq!(certificates.len(), 1);
        assert_eq!(sha256(&certificates[0]), expected);
        assert!(readme.contains(expected), "the README lists root {number}");
    }
}

#[test]
fn the_device_policy_lets_a_thing_connect_as_itself_and_publish_its_own_topics_only() {
    let text = std::fs::read_to_string(certs().join("device-policy.json")).unwrap();
    let policy: Value = serde_json::from_str(&text).unwrap();
    let thing = "${iot:Connection.Thing.ThingName}";
    let arn = |resource: String| json!(format!("arn:aws:iot:REGION:ACCOUNT:{resource}"));
    let topics = ["alerts", "events", "readings", "status"];

    assert_eq!(
        policy["Statement"],
        json!([
            {
                "Effect": "Allow",
                "Action": "iot:Connect",
                "Resource": arn(format!("client/{thing}")),
                "Condition": { "Bool": { "iot:Connection.Thing.IsAttached": "true" } }
            },
            {
                "Effect": "Allow",
                "Action": "iot:Publish",
                "Resource":
                    topics.map(|topic| arn(format!("topic/pulsegate/{thing}/{topic}")))
            },
            {
                "Effect": "Allow",
                "Action": "iot:RetainPublish",
                "Resource": arn(format!("topic/pulsegate/{thing}/status"))
            }
        ])
    );
    assert!(!text.contains(['*', '?']), "no wildcard, in no place");
    assert!(text.chars().filter(|c| !c.is_whitespace()).count() <= MAX_POLICY_CHARACTERS);
}

#[test]
fn the_script_makes_certificates_that_serve_their_own_purpose_only() {
    let dir = tempfile::tempdir().unwrap();

    make(dir.path(), &["ca"]);
    make(dir.path(), &["server", "localhost", "127.0.0.1"]);
    make(dir.path(), &["device", "pi-nestbox-3"]);

    assert!(verifies(dir.path(), "pi-nestbox-3.crt", &["-purpose", "sslclient"]));
    assert!(!verifies(dir.path(), "pi-nestbox-3.crt", &["-purpose", "sslserver"]));
    assert!(verifies(dir.path(), "server.crt", &["-verify_hostname", "localhost"]));
    assert!(verifies(dir.path(), "server.crt", &["-verify_ip", "127.0.0.1"]));
    assert!(!verifies(dir.path(), "server.crt", &["-verify_hostname", "example.org"]));
    assert!(!verifies(dir.path(), "server.crt", &["-purpose", "sslclient"]));
    for key in ["ca.key", "server.key", "pi-nestbox-3.key"] {
        let mode = std::fs::metadata(dir.path().join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

#[test]
fn the_script_overwrites_nothing_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), &["ca"]);
    let key = std::fs::read(dir.path().join("ca.key")).unwrap();

    let again = run(dir.path(), &["ca"]);
    let outside = run(dir.path(), &["device", "../elsewhere"]);

    assert!(!again.status.success());
    assert!(!outside.status.success());
    assert_eq!(std::fs::read(dir.path().join("ca.key")).unwrap(), key);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

fn certs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("certs")
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(certs().join("make-dev-ca"));
    command.arg("--dir").arg(dir).args(arguments).output().expect("bash runs the script")
}

fn make(dir: &Path, arguments: &[&str]) {
    let output = run(dir, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn verifies(dir: &Path, certificate: &str, options: &[&str]) -> bool {
    let mut command = Command::new("openssl");
    command.current_dir(dir).args(["verify", "-CAfile", "ca.crt"]).args(options).arg(certificate);
    command.output().expect("openssl is missing: run `tests/install-packages`").status.success()
}
