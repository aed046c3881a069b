//! The status message of a thing. The message is retained on the status topic, and no stored
//! record.

use serde::Serialize;

/// The state of the thing's connection, as published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(super) enum Presence {
    /// The thing is connected.
    Online,
    /// The thing left in order.
    Offline,
    /// The connection broke: the last will.
    Lost,
}

impl Presence {
    /// Returns the message.
    pub(super) fn to_payload(self) -> String {
        serde_json::to_string(&self).expect("a word is JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_message_keeps_its_bytes() {
        let all = [Presence::Online, Presence::Offline, Presence::Lost].map(Presence::to_payload);
        assert_eq!(
            all,
            [r#"{"status":"online"}"#, r#"{"status":"offline"}"#, r#"{"status":"lost"}"#]
        );
    }
}
