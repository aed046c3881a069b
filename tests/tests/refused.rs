//! A service that does not let the thing in, EN-1 of the acceptance scenarios: no reading is lost,
//! the door is not hammered at, `status` says why, and once it opens everything arrives.

use std::time::Duration;

use pulsegate_standin::broker::{Broker, Options};
use pulsegate_standin::faults::{Faults, OnConnect};
use pulsegate_standin::journal::Journal;
use pulsegate_standin::record::{ConnectionRecord, End};
use pulsegate_tests::agent_process::{Agent, Device, lane_count};
use pulsegate_tests::certs::Certs;
use pulsegate_tests::date;
use pulsegate_tests::inbox::heart_rate;
use pulsegate_tests::{PATIENCE, records};

const THING: &str = "box";
/// How often it has to have knocked before the pauses are looked at.
const KNOCKS: usize = 4;
const READINGS: i64 = 300;

#[tokio::test]
async fn a_thing_that_is_not_authorised_keeps_everything_until_it_is() {
    let cloud = Cloud::start(OnConnect::Refuse(5)).await;

    cloud.refuse_then_let_in(End::Refused(5), "not authorised").await;
}

#[tokio::test]
async fn the_code_that_the_service_has_for_it_means_the_same() {
    let cloud = Cloud::start(OnConnect::Refuse(7)).await;

    cloud.refuse_then_let_in(End::Refused(7), "not authorised").await;
}

#[tokio::test]
async fn a_service_that_just_hangs_up_is_not_hammered_either() {
    let cloud = Cloud::start(OnConnect::Close).await;

    cloud.refuse_then_let_in(End::Fault("closed after CONNECT"), "closed the connection").await;
}

#[tokio::test]
async fn a_refusal_is_answered_with_the_longest_pause_at_once() {
    let cloud = Cloud::start(OnConnect::Refuse(5)).await;
    // As in the field: minutes.
    let device = cloud.device.unset("link", "retry_max");
    let mut agent = device.started().await;

    let status = agent
        .wait_status("it is refused", PATIENCE, |status| {
            status["link"]["last_error"].as_str().is_some_and(|why| why.contains("not authorised"))
        })
        .await;

    assert_eq!(status["link"]["attempts"], 1, "{status:#}");
    assert!(status["link"]["retry_in_s"].as_f64() > Some(1.0), "{status:#}");
}

struct Cloud {
    broker: Broker,
    journal: Journal,
    device: Device,
    _certs: Certs,
}

impl Cloud {
    async fn start(on_connect: OnConnect) -> Self {
        let certs = Certs::new();
        let mut options = Options::new(certs.pki()).expect("a certificate");
        options.faults = Faults { on_connect, ..Faults::default() };
        let journal = Journal::attach(&mut options);
        let broker = Broker::start(options).await.expect("a broker");
        let device = Device::new(THING)
            .identity(&certs.device(THING).files)
            .broker(broker.port(), &certs.ca())
            .set("link", "retry_max", "\"1s\"")
            .set("link", "limits", "\"aws\"")
            .set("publish.readings", "batch", "{ delay = \"100ms\" }");
        Self { broker, journal, device, _certs: certs }
    }

    async fn refuse_then_let_in(&self, end: End, reason: &str) {
        let mut agent = self.device.started().await;
        let ids = fill(&agent).await;
        let knocked = |connections: &[ConnectionRecord]| {
            connections.iter().filter(|connection| connection.ended.is_some()).count() >= KNOCKS
        };
        self.broker.wait_until(knocked, PATIENCE).await.expect("it goes on trying");

        let connections = self.broker.connection_records();
        for connection in &connections[..KNOCKS] {
            assert_eq!(connection.ended.as_ref().map(|(_, end)| end), Some(&end));
        }
        for pair in connections.windows(2) {
            let pause = pair[1].at.saturating_sub(pair[0].at);
            assert!(pause >= Duration::from_millis(900), "a tight loop: {pause:?}");
        }
        let status = agent
            .wait_status("it says why", PATIENCE, |status| {
                status["link"]["last_error"].as_str().is_some_and(|why| why.contains(reason))
            })
            .await;
        assert_eq!(status["link"]["state"], "down");
        let degraded = status["degraded"].as_array().expect("a list");
        assert!(degraded.iter().any(|one| one.as_str().is_some_and(|one| one.contains(reason))));
        assert_eq!(lane_count(&status, "readings", "pending"), ids.len() as u64);
        assert!(self.journal.contents().arrivals.is_empty());

        self.broker.set_faults(Faults::default());
        self.everything_arrives(&mut agent, &ids).await;
    }

    async fn everything_arrives(&self, agent: &mut Agent, ids: &[String]) {
        let arrived = || -> Vec<String> {
            let arrivals = self.journal.acknowledged();
            let readings = arrivals.iter().filter(|one| one.topic.ends_with("/readings"));
            readings
                .flat_map(|arrival| records::parse(&arrival.payload))
                .map(|record| record["seq"].as_str().expect("a seq").to_owned())
                .collect()
        };
        let status = agent
            .wait_status("all is delivered", PATIENCE, |status| {
                lane_count(status, "readings", "delivered") == ids.len() as u64
            })
            .await;
        assert_eq!(lane_count(&status, "readings", "dropped"), 0);
        assert_eq!(arrived(), ids, "in order, each once: no connection was lost on the way");
    }
}

async fn fill(agent: &Agent) -> Vec<String> {
    let lines: Vec<String> =
        (0..READINGS).map(|second| heart_rate("7", 72.0, date::ten() + second)).collect();
    agent.inbox().await.store(&lines).await
}
