//! What a device may do, as an AWS IoT policy says it: allow and deny statements over actions and
//! resources with `*` and `?`, and the variables that a connection fills in.
//!
//! Reads the policy document that is deployed, so the tests run against it. Conditions are taken as
//! met; MQTT's own wildcards are plain characters here, as they are in the service.

use serde_json::Value;

/// The actions that the broker asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Opening a connection under a client id.
    Connect,
    /// Publishing to a topic.
    Publish,
    /// Publishing to a topic with RETAIN.
    RetainPublish,
    /// Subscribing to a filter.
    Subscribe,
    /// Being sent a message on a topic.
    Receive,
}

/// A device policy.
#[derive(Debug, Clone)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Debug, Clone)]
struct Statement {
    allows: bool,
    actions: Vec<String>,
    resources: Vec<String>,
}

/// Why a policy document was not understood.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is not JSON.
    #[error("the policy is not JSON")]
    Json(#[from] serde_json::Error),
    /// It is JSON of another shape.
    #[error("the policy has no valid `{0}`")]
    Shape(&'static str),
}

impl Policy {
    /// Allows everything.
    #[must_use]
    pub fn open() -> Self {
        Self { statements: vec![Statement::allow(&["iot:*"], vec!["*".to_owned()])] }
    }

    /// Allows a device to connect under its own name, to subscribe to and receive
    /// `$aws/things/<thing>/*`, and to publish, retained too, to these topic patterns, in which
    /// `${iot:Connection.Thing.ThingName}` stands for the thing.
    #[must_use]
    pub fn publish_only(patterns: &[&str]) -> Self {
        const OWN: &str = "$aws/things/${iot:Connection.Thing.ThingName}/*";
        let topics = patterns.iter().map(|pattern| resource("topic", pattern)).collect();
        Self {
            statements: vec![
                Statement::allow(
                    &["iot:Connect"],
                    vec![resource("client", "${iot:Connection.Thing.ThingName}")],
                ),
                Statement::allow(&["iot:Publish", "iot:RetainPublish"], topics),
                Statement::allow(&["iot:Receive"], vec![resource("topic", OWN)]),
                Statement::allow(&["iot:Subscribe"], vec![resource("topicfilter", OWN)]),
            ],
        }
    }

    /// Reads a policy document.
    ///
    /// # Errors
    /// It is not JSON, or a statement lacks its effect, actions or resources.
    pub fn from_json(document: &str) -> Result<Self, PolicyError> {
        let document: Value = serde_json::from_str(document)?;
        let statements = match document.get("Statement") {
            Some(Value::Array(statements)) => statements.iter().map(Statement::read).collect(),
            Some(one) => Statement::read(one).map(|statement| vec![statement]),
            None => Err(PolicyError::Shape("Statement")),
        };
        Ok(Self { statements: statements? })
    }

    /// Says whether `client` may do `action` on `subject`: a client id, a topic or a filter. A deny
    /// wins over any allow.
    #[must_use]
    pub fn allows(&self, action: Action, client: &str, subject: &str) -> bool {
        let action_name = action.name();
        let resource = resource(action.resource_kind(), subject);
        let mut applying = self.statements.iter().filter(|statement| {
            let takes_action = statement.actions.iter().any(|taken| glob(taken, action_name));
            takes_action
                && statement
                    .resources
                    .iter()
                    .any(|pattern| glob(&fill_in(pattern, client), &resource))
        });
        applying.clone().any(|statement| statement.allows)
            && applying.all(|statement| statement.allows)
    }
}

impl Statement {
    fn allow(actions: &[&str], resources: Vec<String>) -> Self {
        let actions = actions.iter().map(|&action| action.to_owned()).collect();
        Self { allows: true, actions, resources }
    }

    fn read(statement: &Value) -> Result<Self, PolicyError> {
        let allows = match statement.get("Effect").and_then(Value::as_str) {
            Some("Allow") => true,
            Some("Deny") => false,
            Some(_) | None => return Err(PolicyError::Shape("Effect")),
        };
        let actions = strings(statement.get("Action")).ok_or(PolicyError::Shape("Action"))?;
        let resources = strings(statement.get("Resource")).ok_or(PolicyError::Shape("Resource"))?;
        Ok(Self {
            allows,
            actions,
            resources: resources.iter().map(|arn| without_account(arn)).collect(),
        })
    }
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Connect => "iot:Connect",
            Self::Publish => "iot:Publish",
            Self::RetainPublish => "iot:RetainPublish",
            Self::Subscribe => "iot:Subscribe",
            Self::Receive => "iot:Receive",
        }
    }

    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Connect => "connect as",
            Self::Publish => "publish to",
            Self::RetainPublish => "retain on",
            Self::Subscribe => "subscribe to",
            Self::Receive => "receive",
        }
    }

    fn resource_kind(self) -> &'static str {
        match self {
            Self::Connect => "client",
            Self::Publish | Self::RetainPublish | Self::Receive => "topic",
            Self::Subscribe => "topicfilter",
        }
    }
}

fn resource(kind: &str, subject: &str) -> String {
    format!("{kind}/{subject}")
}

/// Leaves out `arn:aws:iot:<region>:<account>:`, which a stand-in has none of.
fn without_account(arn: &str) -> String {
    if arn.starts_with("arn:") {
        arn.splitn(6, ':').nth(5).unwrap_or_default().to_owned()
    } else {
        arn.to_owned()
    }
}

fn strings(value: Option<&Value>) -> Option<Vec<String>> {
    match value? {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(many) => many.iter().map(|each| each.as_str().map(str::to_owned)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

fn fill_in(pattern: &str, client: &str) -> String {
    const VARIABLES: [&str; 3] = [
        "${iot:Connection.Thing.ThingName}",
        "${iot:ClientId}",
        "${iot:Certificate.Subject.CommonName}",
    ];
    VARIABLES.iter().fold(pattern.to_owned(), |filled, variable| filled.replace(variable, client))
}

/// Matches `text` against a pattern of `*` (any run) and `?` (any one byte).
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut last_star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            last_star = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|&wanted| wanted == b'?' || wanted == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star, taken_to)) = last_star {
            last_star = Some((star, taken_to + 1));
            p = star + 1;
            t = taken_to + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&rest| rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"iot:Publish","Resource":[
            "arn:aws:iot:eu-west-1:123456789012:topic/pulsegate/${iot:Connection.Thing.ThingName}/*"]},
        {"Effect":"Deny","Action":["iot:Publish"],"Resource":"arn:aws:iot:*:*:topic/*/secret"}]}"#;

    #[test]
    fn a_device_publishes_under_its_own_name_only() {
        let policy = Policy::from_json(DOCUMENT).unwrap();

        assert!(policy.allows(Action::Publish, "box", "pulsegate/box/readings"));
        assert!(!policy.allows(Action::Publish, "box", "pulsegate/other/readings"));
        assert!(!policy.allows(Action::Subscribe, "box", "pulsegate/box/readings"));
    }

    #[test]
    fn a_deny_wins() {
        let policy = Policy::from_json(DOCUMENT).unwrap();

        assert!(!policy.allows(Action::Publish, "box", "pulsegate/box/secret"));
    }

    #[test]
    fn the_wildcards_of_mqtt_are_plain_characters() {
        let policy = Policy::publish_only(&["a/+"]);

        assert!(policy.allows(Action::Publish, "box", "a/+"));
        assert!(!policy.allows(Action::Publish, "box", "a/b"));
    }

    #[test]
    fn a_pattern_backtracks_over_its_stars() {
        assert!(glob("a*b*c", "a--b-b--c"));
        assert!(!glob("a*b*c", "a--b-b--"));
        assert!(glob("?", "x"));
        assert!(!glob("?", ""));
        assert!(glob("*", ""));
    }

    #[test]
    fn a_document_of_another_shape_is_refused() {
        for bad in
            ["", "{}", r#"{"Statement":[{}]}"#, r#"{"Statement":[{"Effect":"Allow","Action":1}]}"#]
        {
            assert!(Policy::from_json(bad).is_err(), "{bad}");
        }
    }
}
