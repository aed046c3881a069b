//! The broker, and how the connection is used.

use crate::config::findings::{Finding, Findings};
use crate::config::model::{Limits, Link, Port};
use crate::config::place::At;
use crate::config::placeholder;
use crate::config::tables::LinkTable;
use crate::config::units::{Period, Size};

/// What AWS IoT Core takes of one connection: "AWS IoT Core message broker and protocol limits".
mod aws {
    use std::time::Duration;

    use super::{Period, Size};

    pub(super) const LEAST_KEEP_ALIVE: Period = Period(Duration::from_secs(30));
    pub(super) const MOST_KEEP_ALIVE: Period = Period(Duration::from_secs(1200));
    pub(super) const WINDOW: u16 = 100;
    pub(super) const MESSAGES_PER_SECOND: u32 = 100;
    pub(super) const BYTES_PER_SECOND: Size = Size(512 << 10);
}

/// Splits the endpoint into host and port.
pub(super) fn endpoint(text: &At<String>, findings: &mut Findings) -> (String, Option<u16>) {
    let fault = |message: String| Finding::fault(text.span(), message);
    if let Some((scheme, _)) = text.split_once("://") {
        let message = format!("`endpoint` is a host, without `{scheme}://`");
        findings.push(fault(message).label("such as \"abc-ats.iot.eu-west-1.amazonaws.com\""));
        return (String::new(), None);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text.as_str(), None),
    };
    let number = port.map(|port| port.parse::<u16>().ok().filter(|number| *number > 0));
    if number == Some(None) {
        let port = port.unwrap_or_default();
        findings.push(fault(format!("`{port}` is not a port")).label("1 to 65535"));
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || host.len() > 253 || !host.chars().all(allowed) {
        findings.push(fault(format!("`{host}` is not a host name or address")));
    } else if let Some(reserved) = placeholder::reserved_host(host) {
        let message = format!("`endpoint` still holds a placeholder: `{reserved}` is for examples");
        findings.push(fault(message));
    } else if is_legacy(host) {
        let message = "this endpoint has a certificate that the built-in Amazon roots do not cover";
        let first = host.split('.').next().unwrap_or_default();
        let warning = Finding::warning(text.span(), message);
        findings.push(warning.label(format!("did you mean `{first}-ats.iot...`?")));
    }
    (host.to_owned(), number.flatten())
}

/// The Data endpoint from before Amazon's own authorities: `<prefix>.iot.<region>.amazonaws.com`.
fn is_legacy(host: &str) -> bool {
    let mut labels = host.split('.');
    let first = labels.next().unwrap_or_default();
    labels.next() == Some("iot") && host.contains(".amazonaws.com") && !first.ends_with("-ats")
}

pub(super) fn build(table: LinkTable, only: Option<u16>, findings: &mut Findings) -> Link {
    if table.ports.is_empty() {
        findings.push(Finding::fault(table.ports.span(), "`ports` names no port"));
    }
    match table.limits {
        Limits::Aws => aws_limits(&table, findings),
        Limits::None => {}
    }
    let numbers = only.map_or_else(|| table.ports.to_vec(), |port| vec![port]);
    let ports = numbers
        .into_iter()
        .map(|number| Port { number, alpn: table.alpn_ports.contains(&number) })
        .collect();
    Link {
        ports,
        keep_alive: table.keep_alive.0,
        window: *table.window,
        messages_per_second: *table.messages_per_second,
        bytes_per_second: table.bytes_per_second.0,
        records_per_second: table.records_per_second,
        limits: table.limits,
        connect_timeout: table.connect_timeout.0,
        retry_max: table.retry_max.0,
    }
}

fn aws_limits(table: &LinkTable, findings: &mut Findings) {
    let (least, most) = (aws::LEAST_KEEP_ALIVE, aws::MOST_KEEP_ALIVE);
    if !(least..=most).contains(&*table.keep_alive) {
        let wanted = format!("{least} to {most}");
        findings.push(beyond_aws(&table.keep_alive, "keep_alive", &wanted));
    }
    if *table.window > aws::WINDOW {
        findings.push(beyond_aws(&table.window, "window", &format!("1 to {}", aws::WINDOW)));
    }
    if *table.messages_per_second > aws::MESSAGES_PER_SECOND {
        let wanted = format!("1 to {}", aws::MESSAGES_PER_SECOND);
        findings.push(beyond_aws(&table.messages_per_second, "messages_per_second", &wanted));
    }
    if *table.bytes_per_second > aws::BYTES_PER_SECOND {
        let wanted = format!("at most {}", aws::BYTES_PER_SECOND);
        findings.push(beyond_aws(&table.bytes_per_second, "bytes_per_second", &wanted));
    }
}

/// A value that another broker may take.
pub(super) fn beyond_aws<T: std::fmt::Display>(value: &At<T>, key: &str, wanted: &str) -> Finding {
    Finding::fault(value.span(), format!("`{key}` must be {wanted}, not {}", **value))
        .help("another broker than AWS IoT Core may take it: `limits = \"none\"` in `[link]`")
}
