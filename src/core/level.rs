//! How much is logged.

use serde::{Deserialize, Serialize};

/// In the order of growing detail. Engines read the log as one failure's JSON object, so nothing but a failure is
/// written at the normal level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    #[default]
    Error,
    #[serde(alias = "warning")]
    Warn,
    Info,
    Debug,
}

impl Level {
    /// As logrus spells them.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "error" => Some(Level::Error),
            "warn" | "warning" => Some(Level::Warn),
            "info" => Some(Level::Info),
            "debug" => Some(Level::Debug),
            _ => None,
        }
    }

    /// The word in a log line.
    pub fn word(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}
