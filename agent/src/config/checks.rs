//! The second pass: checks the tables together, and builds the configuration of the agent.
//!
//! Each check reports its findings and goes on. The result is used only if no finding is a fault.

mod known;
mod names;
mod outputs;
mod publish;
mod rules;
mod sensors;
mod visits;

use std::sync::Arc;

use super::findings::Findings;
use super::model::{Config, Publish, Sensors};
use super::sections::split_endpoint;
use super::tables::Tables;
use known::Known;

/// Checks everything except the named files, and builds the configuration.
pub(super) fn build_config(mut tables: Tables, findings: &mut Findings) -> Config {
    let known = Known::of(&tables);
    names::check_names(&tables, findings);
    let (host, port) = split_endpoint(&tables.endpoint, findings);
    findings.push_all(tables.link.check());
    if let Some(port) = port {
        tables.link.ports = vec![port];
    }
    sensors::check_sensors(&tables, findings);
    let visits = visits::build_visits(&tables, &known, findings);
    let outputs = outputs::build_outputs(&tables, findings);
    let night = outputs::night(tables.night.as_ref(), &known, findings);
    sensors::complete(&mut tables);
    let (of, thing) = (tables.publish, &tables.thing);
    let publish = publish::build_publish(of, thing, &tables.link, &known, findings);
    rules::recordings(&tables.rule, is_filtered(&publish), findings);
    Config {
        link: tables.link,
        sensors: Sensors {
            bluetooth: tables.bluetooth,
            gpio: tables.gpio,
            heart_rates: tables.heart_rate,
            lids: tables.lid,
            triggers: tables.trigger,
            numbers: tables.number,
            inboxes: tables.inbox,
            simulated: tables.simulated,
            cameras: tables.camera,
        },
        outputs,
        night,
        pictures: tables.pictures,
        visits,
        rules: Arc::new(rules::build_rules(&tables.rule, &known, findings)),
        thing: tables.thing,
        host,
        state_dir: tables.state_dir,
        identity: tables.identity,
        clock: tables.clock,
        status: tables.status,
        publish,
        buffer: tables.buffer,
        log: tables.log,
    }
}

/// Returns `true` if any filter holds back readings from the cloud.
fn is_filtered(publish: &Publish) -> bool {
    let mut all = publish.kinds.values().chain([&publish.readings]);
    all.any(|format| !format.filter.is_open())
}
