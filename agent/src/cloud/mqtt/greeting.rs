//! The greeting: the message online, and the evidence about the status topic from its answer.

use pulsegate_core::cloud::delivery::{ANSWER_STANDS, LinkEnd, SUSPECT_WITHIN};
use pulsegate_core::time::Mono;

/// The state of the greeting on a connection. The greeting is sent alone and first: if the broker
/// forbids its topic and hangs up, no other topic comes under suspicion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    None,
    /// Sent at this time.
    Unanswered(Mono),
    /// Acknowledged at this time.
    Answered(Mono),
}

/// Evidence about the status topic from the end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GreetingVerdict {
    Against,
    Nothing,
    For,
}

impl Greeting {
    /// Judges the status topic by the rules of [`pulsegate_core::cloud::delivery`] for other
    /// topics.
    pub(super) fn judge_death(self, death: LinkEnd, now: Mono) -> GreetingVerdict {
        match (self, death) {
            (Self::Unanswered(sent), LinkEnd::ByPeer) if now.since(sent) <= SUSPECT_WITHIN => {
                GreetingVerdict::Against
            }
            (Self::None | Self::Unanswered(_), _) => GreetingVerdict::Nothing,
            (Self::Answered(at), LinkEnd::ByPeer) if now.since(at) < ANSWER_STANDS => {
                GreetingVerdict::Against
            }
            (Self::Answered(_), _) => GreetingVerdict::For,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_hang_up_soon_after_the_greeting_or_its_answer_speaks_against_the_status_topic() {
        let at = |seconds: u64| Mono(seconds * 1_000);
        let (by_peer, otherwise) = (LinkEnd::ByPeer, LinkEnd::Otherwise);
        // The greeting, the end of the connection and its time in seconds.
        let rows = [
            (Greeting::None, by_peer, 1, GreetingVerdict::Nothing),
            (Greeting::Unanswered(at(1)), by_peer, 2, GreetingVerdict::Against),
            (Greeting::Unanswered(at(1)), by_peer, 11, GreetingVerdict::Against),
            (Greeting::Unanswered(at(1)), by_peer, 12, GreetingVerdict::Nothing),
            (Greeting::Unanswered(at(1)), otherwise, 2, GreetingVerdict::Nothing),
            (Greeting::Answered(at(1)), by_peer, 1, GreetingVerdict::Against),
            (Greeting::Answered(at(1)), otherwise, 1, GreetingVerdict::For),
            (Greeting::Answered(at(1)), by_peer, 7_200, GreetingVerdict::For),
        ];
        for (greeting, death, ended, finding) in rows {
            let found = greeting.judge_death(death, at(ended));
            assert_eq!(found, finding, "{greeting:?}, {death:?} after {ended} s");
        }
    }
}
