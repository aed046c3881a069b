//! Topics on which message after message is condemned: most likely the policy forbids them. Trying
//! each of their messages would cost every other message two connections, so such a topic rests,
//! and is tried again after a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::time::Mono;

/// One message may be bad in itself, and so may its neighbour; from the third on it is the topic.
const CONDEMNED_IN_A_ROW: u32 = 3;
/// What a policy that was corrected has to wait at most. Each attempt costs two connections.
const REST: Duration = Duration::from_secs(600);

/// The topics that are under suspicion; few.
#[derive(Debug, Default)]
pub(super) struct Topics(BTreeMap<Arc<str>, Suspicion>);

#[derive(Debug, Default)]
struct Suspicion {
    condemned: u32,
    rests_until: Option<Mono>,
}

impl Topics {
    /// A message of this topic was acknowledged.
    pub(super) fn passed(&mut self, topic: &str) {
        self.0.remove(topic);
    }

    /// A message of this topic was condemned.
    pub(super) fn condemned(&mut self, topic: &Arc<str>, now: Mono) {
        let suspicion = self.0.entry(Arc::clone(topic)).or_default();
        suspicion.condemned += 1;
        if suspicion.condemned >= CONDEMNED_IN_A_ROW {
            suspicion.rests_until = Some(now + REST);
        }
    }

    /// Whether the last message of this topic was condemned: the next goes alone at once.
    pub(super) fn is_suspect(&self, topic: &str) -> bool {
        self.0.contains_key(topic)
    }

    /// Whether messages of this topic are not to be tried at present.
    pub(super) fn is_at_rest(&self, topic: &str, now: Mono) -> bool {
        let until = self.0.get(topic).and_then(|suspicion| suspicion.rests_until);
        until.is_some_and(|until| now < until)
    }
}
