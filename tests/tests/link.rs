//! A link that breaks as links do: cut amid a delivery, gone without a word, hopelessly slow. P2, P4:
//! nothing is lost, and what is sent twice is no more than the window.

use std::collections::BTreeMap;

use pulsegate_tests::agent_process::{Agent, Device, lane_count};
use pulsegate_tests::date;
use pulsegate_tests::inbox::heart_rate;
use pulsegate_tests::link::Link;
use pulsegate_tests::site::Site;
use pulsegate_tests::{PATIENCE, eventually};
use serde_json::Value;

const WINDOW: usize = 8;
/// Records in one message of 5 KiB: of some 88 bytes each.
const MOST_IN_A_MESSAGE: usize = 5 * 1024 / 75;

/// A reset in the middle of it, again and again.
#[tokio::test]
async fn a_link_that_is_cut_amid_a_delivery_loses_nothing() {
    const CUTS: usize = 3;
    let field = Field::open().await;
    let mut agent = field.device.started().await;
    let mut ids = Vec::new();

    for cut in 0..CUTS {
        ids.extend(fill(&agent, 2_000).await);
        let arrived = field.site.subscriber.len();
        let some = || field.site.subscriber.len() > arrived + 2;
        eventually("some arrive", PATIENCE, async || some().then_some(())).await;
        field.link.cut();
        agent
            .wait_status(&format!("cut {cut} is noticed"), PATIENCE, |status| {
                status["link"]["state"] == "down"
            })
            .await;
        field.link.mend();
    }

    arrive(&field.site, &mut agent, &ids, CUTS).await;
}

/// A link that takes bytes and passes none: only the keep-alive can tell.
#[tokio::test]
async fn a_link_that_goes_dead_without_a_word_is_given_up_and_loses_nothing() {
    let field = Field::open().await;
    let device = field.device.set("link", "keep_alive", "\"5s\"");
    let mut agent = device.started().await;
    let mut ids = fill(&agent, 500).await;
    agent.wait_status("they are delivered", PATIENCE, delivered(500)).await;

    field.link.freeze();
    ids.extend(fill(&agent, 500).await);
    let connections = field.link.connections();
    agent
        .wait_status("it is noticed", PATIENCE, |status| {
            status["link"]["last_error"].is_string() && status["link"]["state"] == "down"
        })
        .await;
    let again = || field.link.connections() > connections;
    eventually("it tries again", PATIENCE, async || again().then_some(())).await;
    field.link.mend();

    arrive(&field.site, &mut agent, &ids, 1).await;
}

/// A network that is not there at all when the agent starts: P7.
#[tokio::test]
async fn a_start_into_a_black_hole_ends_well_once_there_is_a_way() {
    let field = Field::open().await;
    field.link.freeze();
    let device = field.device.set("link", "connect_timeout", "\"2s\"");
    let mut agent = device.started().await;
    let ids = fill(&agent, 500).await;
    agent
        .wait_status("it says why", PATIENCE, |status| {
            status["link"]["last_error"].as_str().is_some_and(|why| why.contains("in time"))
        })
        .await;

    field.link.mend();

    arrive(&field.site, &mut agent, &ids, 1).await;
}

/// Killed amid a delivery: after it, what was in the window comes twice at most.
#[tokio::test]
async fn an_agent_killed_amid_a_delivery_repeats_no_more_than_its_window() {
    let field = Field::open().await;
    let mut agent = field.device.started().await;
    let ids = fill(&agent, 4_000).await;
    let some = || field.site.subscriber.len() > 5;
    eventually("some arrive", PATIENCE, async || some().then_some(())).await;

    agent.sigkill().await;
    let mut agent = field.device.started().await;

    let all = |status: &Value| lane_count(status, "readings", "pending") == 0;
    agent.wait_status("all is delivered", PATIENCE, all).await;
    arrive(&field.site, &mut agent, &ids, 1).await;
}

/// A site at the other end of a link.
struct Field {
    site: Site,
    link: Link,
    device: Device,
}

impl Field {
    async fn open() -> Self {
        let site = Site::start().await;
        let link = Link::to(site.broker.port()).await;
        let device = site.device_on(link.port()).set("link", "window", &WINDOW.to_string()).set(
            "publish.readings",
            "batch",
            "{ bytes = \"5KiB\", delay = \"100ms\" }",
        );
        Self { site, link, device }
    }
}

/// Waits until every one of `ids` has arrived, and looks at what came twice.
async fn arrive(site: &Site, agent: &mut Agent, ids: &[String], breaks: usize) {
    let status = agent.wait_status("all is delivered", PATIENCE, delivered(ids.len() as u64)).await;
    assert_eq!(lane_count(&status, "readings", "dropped"), 0);
    assert_eq!(status["lanes"]["readings"]["balanced"], true);

    let mut times = BTreeMap::<String, usize>::new();
    let mut records = 0;
    let mut complete = || {
        times.clear();
        let all = site.subscriber.records("/readings");
        records = all.len();
        for record in all {
            *times.entry(record["seq"].as_str().expect("a seq").to_owned()).or_default() += 1;
        }
        times.len() == ids.len()
    };
    eventually("all arrive", PATIENCE, async || complete().then_some(())).await;

    assert!(ids.iter().all(|id| times.contains_key(id)));
    let twice = records - ids.len();
    let allowed = breaks * WINDOW * MOST_IN_A_MESSAGE;
    assert!(twice <= allowed, "{twice} came twice, of {allowed} at most");
}

async fn fill(agent: &Agent, count: i64) -> Vec<String> {
    let lines: Vec<String> =
        (0..count).map(|at| heart_rate("7", 72.0, date::ten() + at * 1_000)).collect();
    agent.inbox().await.store(&lines).await
}

fn delivered(count: u64) -> impl FnMut(&Value) -> bool {
    move |status| lane_count(status, "readings", "delivered") == count
}
