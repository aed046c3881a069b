//! Cameras.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::findings::Finding;
use crate::config::units::{Period, duration, millis};

/// A camera, driven by a program that takes one picture.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Camera {
    /// Its opaque id.
    pub id: String,
    /// How a picture is taken.
    pub capture: Capture,
    /// How often it takes one unasked, on the grid of the clock. This version does not yet.
    #[serde(default, with = "duration")]
    #[schemars(with = "Option<Period>", extend("x-range" = ["1s", "7d"]))]
    pub every: Option<Duration>,
}

/// How a picture is taken.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Capture {
    /// The program and its arguments; `{path}` is where the picture goes.
    pub command: Vec<String>,
    /// The program is killed after that long, with all that it started.
    #[serde(default = "millis::<20_000>", with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["1s", "10m"]))]
    pub deadline: Duration,
    /// How long the camera rests after each picture; what happens meanwhile gets none.
    #[serde(default = "millis::<1_000>", with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["0s", "1d"]))]
    pub rest: Duration,
}

impl Camera {
    /// Checks the table at `path`. The warnings name the keys that this version does not follow.
    pub(in crate::config) fn check(&self, path: &str) -> Vec<Finding> {
        let mut found = Vec::new();
        let command = &self.capture.command;
        let fault = |message| Finding::fault(format!("{path}.capture.command"), message);
        if command.first().is_none_or(|program| program.is_empty() || program.contains("{path}")) {
            found.push(fault("`command` names no program"));
        } else if !command.iter().any(|word| word.contains("{path}")) {
            let label = "such as [\"rpicam-still\", \"-o\", \"{path}\"]";
            found.push(fault("`command` does not say where the picture goes").label(label));
        }
        if self.every.is_some() {
            let message = "this version takes pictures only when a rule or a visit asks for one";
            let warning = Finding::warning(format!("{path}.every"), message);
            found.push(warning.label("`every` is not followed yet"));
        }
        found
    }
}
