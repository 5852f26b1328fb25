//! What is written on what we make: user properties, which stay with a snapshot or a dataset wherever it is sent or moved.

use wharf_core::time;

/// The container that it is of; of a clone, the one that runs on it.
pub(crate) const CONTAINER: &str = "dev.wharf:container";
/// The checkpoint that it belongs to; of a clone, the one that it was restored from.
pub(crate) const CHECKPOINT: &str = "dev.wharf:checkpoint";
/// When, RFC 3339 in UTC.
pub(crate) const CREATED: &str = "dev.wharf:created";

/// `--root` of the container.
pub(crate) const ROOT: &str = "dev.wharf:root";

/// Where the manifest of the checkpoint is.
pub(crate) const DIRECTORY: &str = "dev.wharf:directory";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    pub container: String,
    /// Empty where it is of none.
    pub checkpoint: String,
    /// RFC 3339 in UTC, with nanoseconds: it tells one attempt from another.
    pub created: String,
    /// `--root` of the container, where that matters: ids are names below one.
    pub root: String,
    /// Directory of the checkpoint: when its manifest is gone, `gc` takes what bears this mark for left behind.
    pub directory: String,
}

impl Marks {
    /// Of this moment.
    pub fn now(container: &str, checkpoint: &str) -> Self {
        Marks {
            container: container.to_owned(),
            checkpoint: checkpoint.to_owned(),
            created: time::now(),
            root: String::new(),
            directory: String::new(),
        }
    }

    pub fn kept_in(self, directory: &std::path::Path) -> Self {
        Marks { directory: directory.to_string_lossy().into_owned(), ..self }
    }

    pub fn below(self, root: &std::path::Path) -> Self {
        Marks { root: root.to_string_lossy().into_owned(), ..self }
    }

    /// As options of `zfs`: one word, to come after `-o`, for each.
    pub(crate) fn words(&self) -> Vec<String> {
        let all = [
            (CONTAINER, &self.container),
            (CHECKPOINT, &self.checkpoint),
            (CREATED, &self.created),
            (ROOT, &self.root),
            (DIRECTORY, &self.directory),
        ];
        all.into_iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| format!("{key}={value}")).collect()
    }
}

/// `-` stands for a property that is not set.
pub(crate) fn value(text: &str) -> Option<&str> {
    Some(text).filter(|text| *text != "-" && !text.is_empty())
}
