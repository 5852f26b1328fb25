//! JSON that only its writer reads.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// What a backend remembers of a container, kept as the text it is: who reads a record does not take it apart.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Opaque(Box<RawValue>);

impl Opaque {
    /// What cannot be JSON (a map whose keys are no strings) is nothing.
    pub fn of(memory: &impl Serialize) -> Self {
        to_raw_value(memory).map(Opaque).unwrap_or_default()
    }

    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.0.get())
    }

    pub fn value(&self) -> Value {
        self.read().unwrap_or_default()
    }
}

impl Default for Opaque {
    fn default() -> Self {
        Opaque(RawValue::NULL.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_written_is_read_and_is_written_the_same() {
        let text = r#"{"b":[1, "\u00e4"],"a":null}"#;
        let read: Opaque = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert_eq!(read.value(), json!({"a": null, "b": [1, "ä"]}));
        assert_eq!(read.read::<std::collections::HashMap<String, Option<Vec<Value>>>>().unwrap().len(), 2);
        assert!(read.read::<u8>().is_err());
        assert_eq!(Opaque::of(&json!({"a": 1})).value()["a"], 1);
        assert_eq!(serde_json::to_string(&Opaque::default()).unwrap(), "null");
    }
}
