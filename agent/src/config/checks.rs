//! The second pass: what the tables say together, made into the values that the agent reads.
//!
//! Each check reports what it finds and goes on; the result counts only if nothing was a fault.

mod known;
mod link;
mod names;
mod outputs;
mod publish;
mod rules;
mod sensors;
mod visits;

use std::sync::Arc;

use super::findings::Findings;
use super::model::{Buffer, Clock, Config, Identity, Log, Publish, Status};
use super::place::At;
use super::tables::{BufferTable, IdentityTable, Tables};
use known::Known;

/// Checks everything but the files that are named, and makes the configuration.
pub(super) fn build(tables: Tables, findings: &mut Findings) -> Config {
    // Stand-ins for broken values would be called faults a second time.
    let is_readable = findings.faults() == 0;
    let known = Known::of(&tables);
    names::check(&tables, findings);
    let (host, port) = link::endpoint(&tables.endpoint, findings);
    let sensors = sensors::build(&tables, findings);
    let visits = visits::build(&tables, &known, findings);
    let outputs = outputs::build(&tables, findings);
    let night = outputs::night(tables.night.as_ref(), &known, findings);
    let link = (tables.link.limits, *tables.link.window);
    let publish = publish::build(tables.publish, &tables.thing, link, &known, findings);
    rules::recordings(&tables.rule, is_filtered(&publish), findings);
    Config {
        link: link::build(tables.link, port, findings),
        sensors,
        outputs,
        night,
        pictures_max_bytes: tables.pictures.max_bytes.0,
        visits,
        rules: Arc::new(rules::build(&tables.rule, &known, is_readable, findings)),
        thing: tables.thing.into_inner(),
        host,
        state_dir: tables.state_dir,
        identity: identity(tables.identity),
        clock: Clock { trust: tables.clock.trust },
        status: Status { socket: tables.status.socket },
        publish,
        buffer: buffer(&tables.buffer),
        log: Log { level: tables.log.level },
    }
}

/// Whether the cloud sees less than the device.
fn is_filtered(publish: &Publish) -> bool {
    let mut all = publish.kinds.values().chain([&publish.readings]);
    all.any(|format| !format.filter.is_open())
}

fn identity(table: IdentityTable) -> Identity {
    Identity {
        certificate: table.certificate.into_inner(),
        private_key: table.private_key.into_inner(),
        roots: table.roots.map(At::into_inner),
    }
}

fn buffer(table: &BufferTable) -> Buffer {
    Buffer {
        commit_interval: table.commit_interval.0,
        max_bytes: table.max_bytes.0,
        history: table.history.0,
        ttl: table.ttl.map(|ttl| ttl.0),
        backlog_of_another_thing: table.backlog_of_another_thing,
    }
}
