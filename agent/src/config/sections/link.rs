//! The broker's address, and the ports, timeouts and limits of the connection.

use std::fmt::Display;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::findings::{Finding, Findings};
use crate::config::placeholder;
use crate::config::places::Place;
use crate::config::units::{Period, Size, duration, size};

/// The limits of AWS IoT Core for one connection: "AWS IoT Core message broker and protocol
/// limits".
mod aws {
    use std::time::Duration;

    use super::{Period, Size};

    pub(super) const LEAST_KEEP_ALIVE: Period = Period(Duration::from_secs(30));
    pub(super) const MOST_KEEP_ALIVE: Period = Period(Duration::from_secs(1200));
    pub(super) const WINDOW: u16 = 100;
    pub(super) const MESSAGES_PER_SECOND: u32 = 100;
    pub(super) const BYTES_PER_SECOND: Size = Size(512 << 10);
}

/// Ports, timeouts and limits of the connection to the broker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Link {
    /// Ports of the broker, at least one: after a failed attempt, the next port is tried. A port in
    /// `endpoint` replaces the list.
    #[schemars(inner(range(min = 1)))]
    pub ports: Vec<u16>,
    /// Ports on which TLS offers the protocol `x-amzn-mqtt-ca` (ALPN), as AWS IoT Core requires on
    /// port 443. A port that is not in use has no effect here.
    pub alpn_ports: Vec<u16>,
    /// Interval of MQTT pings on an idle connection, in whole seconds; AWS takes `30s` to `1200s`.
    /// A short interval notices a dead connection early. Also the upper limit of `ack_timeout`.
    /// Range: `5s` to `12h`.
    #[serde(with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["5s", "12h"]))]
    pub keep_alive: Duration,
    /// Longest wait for the acknowledgement of a published message, beside the time that the link
    /// takes for the bytes before it, at most 110 s; after the wait, or after `keep_alive` if
    /// shorter, the agent connects again and sends the message again. Range: `5s` to `10m`.
    #[serde(with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["5s", "10m"]))]
    pub ack_timeout: Duration,
    /// Most messages without an acknowledgement at any time, 1 to 10000; AWS takes 100. A quarter is
    /// reserved for alerts.
    #[schemars(range(min = 1, max = 10_000))]
    pub window: u16,
    /// Most readings and events that a crash sends twice, 2 to 1000000. A message has at most half
    /// of this number; a smaller number commits more often while a backlog drains.
    #[schemars(range(min = 2, max = 1_000_000))]
    pub repeat: u32,
    /// Most messages published per second, 1 to 100000. AWS takes 100, and drops further ones
    /// without notice; the default leaves half of that unused. No effect with `limits = "none"`.
    #[schemars(range(min = 1, max = 100_000))]
    pub messages_per_second: u32,
    /// Most bytes of topics and payloads published per second. AWS takes `512KiB`; the default
    /// leaves a quarter of that unused. No effect with `limits = "none"`. Range: `1KiB` to `1GiB`.
    #[serde(with = "size")]
    #[schemars(with = "Size", extend("x-range" = ["1KiB", "1GiB"]))]
    pub bytes_per_second: u64,
    /// Most records published per second, 1 to 1000000, for a service behind the broker: a Kinesis
    /// shard takes 1000. Default: no limit.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub records_per_second: Option<u32>,
    /// Broker whose limits apply: `aws` for AWS IoT Core, `none` for any other broker.
    pub limits: Limits,
    /// Time limit of one attempt to connect: name look-up, TCP, TLS and the broker's answer
    /// together, in whole seconds. The look-up has at most half of the limit. Range: `1s` to `5m`.
    #[serde(with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["1s", "5m"]))]
    pub connect_timeout: Duration,
    /// Longest wait before another attempt to connect. A wait is random: at most 2 s after the
    /// first failure, at most twice the previous bound after each further one, and at most
    /// `retry_max` after a refusal by the broker. Range: `1s` to `1h`.
    #[serde(with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["1s", "1h"]))]
    pub retry_max: Duration,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            ports: vec![443, 8883],
            alpn_ports: vec![443],
            keep_alive: Duration::from_secs(30),
            ack_timeout: Duration::from_secs(30),
            window: 16,
            repeat: 2_000,
            messages_per_second: 50,
            bytes_per_second: 384 << 10,
            records_per_second: None,
            limits: Limits::Aws,
            connect_timeout: Duration::from_secs(20),
            retry_max: Duration::from_secs(300),
        }
    }
}

/// The broker whose limits apply.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Limits {
    /// AWS IoT Core: a value of `keep_alive`, `window`, `messages_per_second`, `bytes_per_second`,
    /// `batch.bytes` or a topic beyond its limits is a fault.
    #[default]
    Aws,
    /// Another broker: values beyond the limits of AWS are accepted, and neither
    /// `messages_per_second` nor `bytes_per_second` is applied.
    None,
}

/// A port of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Port {
    /// The number of the port.
    pub number: u16,
    /// `true` if TLS offers `x-amzn-mqtt-ca` on the port.
    pub alpn: bool,
}

impl Link {
    /// Returns the ports to try in turn; at least one.
    pub(crate) fn list_ports(&self) -> impl Iterator<Item = Port> + Clone {
        let port = |number: &u16| Port { number: *number, alpn: self.alpn_ports.contains(number) };
        self.ports.iter().map(port)
    }

    /// Checks the keys beyond their ranges.
    pub(in crate::config) fn check(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        if self.ports.is_empty() {
            found.push(Finding::fault("link.ports", "`ports` names no port"));
        }
        let is_set = self.ack_timeout != Self::default().ack_timeout;
        if is_set && self.ack_timeout > self.keep_alive {
            let message = format!(
                "a publish waits for its acknowledgement no longer than `keep_alive` ({})",
                Period(self.keep_alive)
            );
            found.push(Finding::warning("link.ack_timeout", message));
        }
        if self.limits == Limits::Aws {
            found.extend(self.check_aws_limits());
        }
        found
    }

    fn check_aws_limits(&self) -> impl Iterator<Item = Finding> {
        let (least, most) = (aws::LEAST_KEEP_ALIVE, aws::MOST_KEEP_ALIVE);
        let beyond = |is_beyond: bool, key: &str, value: &dyn Display, wanted: String| {
            is_beyond.then(|| beyond_aws(format!("link.{key}"), value, key, &wanted))
        };
        let keep_alive = Period(self.keep_alive);
        let bytes = Size(self.bytes_per_second);
        [
            beyond(
                !(least..=most).contains(&keep_alive),
                "keep_alive",
                &keep_alive,
                format!("{least} to {most}"),
            ),
            beyond(
                self.window > aws::WINDOW,
                "window",
                &self.window,
                format!("1 to {}", aws::WINDOW),
            ),
            beyond(
                self.messages_per_second > aws::MESSAGES_PER_SECOND,
                "messages_per_second",
                &self.messages_per_second,
                format!("1 to {}", aws::MESSAGES_PER_SECOND),
            ),
            beyond(
                bytes > aws::BYTES_PER_SECOND,
                "bytes_per_second",
                &bytes,
                format!("at most {}", aws::BYTES_PER_SECOND),
            ),
        ]
        .into_iter()
        .flatten()
    }
}

/// Returns the fault of a value beyond the limits of AWS that another broker may accept.
pub(in crate::config) fn beyond_aws(
    place: impl Into<Place>,
    value: impl Display,
    key: &str,
    wanted: &str,
) -> Finding {
    Finding::fault(place, format!("`{key}` must be {wanted}, not {value}"))
        .help("another broker than AWS IoT Core may take it: `limits = \"none\"` in `[link]`")
}

/// Splits the endpoint into host and port.
pub(in crate::config) fn split_endpoint(
    text: &str,
    findings: &mut Findings,
) -> (String, Option<u16>) {
    let fault = |message: String| Finding::fault("endpoint", message);
    if let Some((scheme, _)) = text.split_once("://") {
        let message = format!("`endpoint` is a host, without `{scheme}://`");
        findings.push(fault(message).label("such as \"abc-ats.iot.eu-west-1.amazonaws.com\""));
        return (String::new(), None);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
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
        let warning = Finding::warning("endpoint", message);
        findings.push(warning.label(format!("did you mean `{first}-ats.iot...`?")));
    }
    (host.to_owned(), number.flatten())
}

/// Returns `true` for a Data endpoint from before Amazon's own authorities:
/// `<prefix>.iot.<region>.amazonaws.com`.
fn is_legacy(host: &str) -> bool {
    let mut labels = host.split('.');
    let first = labels.next().unwrap_or_default();
    labels.next() == Some("iot") && host.contains(".amazonaws.com") && !first.ends_with("-ats")
}
