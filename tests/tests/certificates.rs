//! mosquitto and certificates that are no good: `status` says what is wrong in words that name the
//! cure, the door is not hammered at, nothing is lost, and all goes on once the cause is gone.

use std::path::Path;

use pulsegate_tests::PATIENCE;
use pulsegate_tests::agent_process::{Agent, lane_count};
use pulsegate_tests::certs::{Certs, Issued, Validity};
use pulsegate_tests::date;
use pulsegate_tests::inbox::heart_rate;
use pulsegate_tests::link::Link;
use pulsegate_tests::mosquitto::{Mosquitto, Options};
use pulsegate_tests::site::{Site, THING};
use serde_json::Value;

const READINGS: u64 = 50;

#[tokio::test]
async fn a_broker_of_an_authority_that_is_not_trusted() {
    let site = Site::start().await;
    let elsewhere = Certs::new();
    let device = site.device().broker(site.broker.port(), &elsewhere.ca());
    let mut agent = device.started().await;

    kept(&mut agent, "signed by an authority that is not trusted here").await;

    replace(&elsewhere.ca(), &site.ca());
    delivered(&mut agent, &site).await;
}

#[tokio::test]
async fn a_broker_by_another_name() {
    wrong_server(
        |certs| certs.server(&["broker.elsewhere"], Validity::Current),
        "another host name",
    )
    .await;
}

#[tokio::test]
async fn a_broker_whose_certificate_has_expired() {
    wrong_server(|certs| certs.server(&["localhost"], Validity::Expired), "has expired").await;
}

#[tokio::test]
async fn a_broker_whose_certificate_is_not_valid_yet() {
    wrong_server(|certs| certs.server(&["localhost"], Validity::NotYetValid), "is not valid yet")
        .await;
}

#[tokio::test]
async fn a_device_whose_certificate_has_expired() {
    wrong_device(
        |certs| certs.device_with(THING, Validity::Expired),
        "this device's certificate has expired",
    )
    .await;
}

/// OpenSSL has no alert of its own for it.
#[tokio::test]
async fn a_device_whose_certificate_is_not_valid_yet() {
    wrong_device(
        |certs| certs.device_with(THING, Validity::NotYetValid),
        "does not accept this device's certificate",
    )
    .await;
}

#[tokio::test]
async fn a_device_of_another_authority() {
    let elsewhere = Certs::new();
    let wrong = |_: &Certs| elsewhere.device(THING);
    wrong_device(wrong, "does not accept this device's certificate").await;
}

#[tokio::test]
async fn a_device_whose_certificate_was_revoked() {
    let certs = Certs::new();
    let (revoked, good) = (certs.device(THING), certs.device(THING));
    let list = certs.revocation_list(&[&revoked]);
    let options = Options::default().thing(THING).revocation_list(list);
    let site = Site::start_under(certs, options).await;
    let device = site.device().identity(&revoked.files);
    let mut agent = device.started().await;

    kept(&mut agent, "this device's certificate is revoked").await;

    replace_identity(&revoked, &good);
    delivered(&mut agent, &site).await;
}

/// A broker shows `wrong`, until another at its place shows a good certificate.
async fn wrong_server(wrong: impl FnOnce(&Certs) -> Issued, reason: &str) {
    let site = Site::start().await;
    let options = Options::default().thing(THING).server(wrong(&site.certs));
    let impostor = Mosquitto::start(&site.certs, options).await;
    let link = Link::to(impostor.port()).await;
    let device = site.device_on(link.port());
    let mut agent = device.started().await;

    kept(&mut agent, reason).await;

    link.lead_to(site.broker.port());
    delivered(&mut agent, &site).await;
}

/// A device has the certificate `wrong`, until a good one is put in its place.
async fn wrong_device(wrong: impl FnOnce(&Certs) -> Issued, reason: &str) {
    let site = Site::start().await;
    let wrong = wrong(&site.certs);
    let device = site.device().identity(&wrong.files);
    let mut agent = device.started().await;

    kept(&mut agent, reason).await;

    replace_identity(&wrong, &site.identity);
    delivered(&mut agent, &site).await;
}

/// Readings are kept, and the reason is told, while attempts go on.
async fn kept(agent: &mut Agent, reason: &str) {
    let lines: Vec<String> = (0..READINGS).map(|_| heart_rate("7", 72.0, date::ten())).collect();
    agent.inbox().await.store(&lines).await;

    let status = agent
        .wait_status(&format!("it says that {reason}"), PATIENCE, |status| {
            let told = status["link"]["last_error"].as_str();
            told.is_some_and(|told| told.contains(reason))
                && status["link"]["attempts"].as_u64() >= Some(2)
        })
        .await;

    assert_eq!(status["link"]["state"], "down");
    assert_eq!(lane_count(&status, "readings", "pending"), READINGS);
    let attempts = status["link"]["attempts"].as_u64().expect("a number");
    let uptime = status["uptime_s"].as_u64().expect("a number");
    assert!(attempts <= uptime + 2, "a tight loop: {attempts} attempts in {uptime} s");
}

async fn delivered(agent: &mut Agent, site: &Site) {
    let all = |status: &Value| lane_count(status, "readings", "delivered") == READINGS;
    let status = agent.wait_status("all is delivered", PATIENCE, all).await;

    assert_eq!(lane_count(&status, "readings", "dropped"), 0);
    let all = |records: &[Value]| records.len() >= usize::try_from(READINGS).expect("a few");
    site.subscriber.wait_records("/readings", PATIENCE, all).await;
}

/// Puts another certificate and its key in the place of one, as whoever renews it does.
fn replace_identity(old: &Issued, new: &Issued) {
    replace(&old.files.certificate, &new.files.certificate);
    replace(&old.files.private_key, &new.files.private_key);
}

fn replace(old: &Path, new: &Path) {
    std::fs::copy(new, old).expect("both are files of ours");
}
