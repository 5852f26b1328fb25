//! The nouns of wharf and the promise every backend keeps.
#![forbid(unsafe_code)]

pub mod annotations;
mod backend;
mod bundle;
mod checkpoint;
mod digest;
pub mod duration;
mod error;
mod exec;
mod exit;
mod id;
mod level;
mod lifecycle;
mod manifest;
pub mod mountinfo;
mod opaque;
mod passwd;
pub mod phases;
mod properties;
mod record;
mod statistics;
mod terminal;
pub mod time;
mod verdict;

pub use backend::{Backend, Created, Draft, Event, Hold, Job, Log, Supervisor, Unsupported, Used, Warnings};
pub use bundle::{Bundle, parse_process, parse_resources, read_file, read_process};
pub use checkpoint::{Captured, CgroupsMode, Checkpoint, Images, Obstacle, Restore};
pub use digest::Digest;
pub use error::{Error, Kind, Result, errno_text};
pub use exec::{Exec, Joined, User};
pub use exit::{EXIT_FILE, EXIT_VERSION, Ended, Exit, Oom, OomVerdict, Sender, Sent, Usage, WitnessKind};
pub use id::ContainerId;
pub use level::Level;
pub use lifecycle::{Status, Verb, allowed};
pub use manifest::{
    CONFIG, DatasetEntry, Disk, ExternalMount, Host, ImageFile, MANIFEST, MANIFEST_VERSION, Manifest, Memory,
    SpecDigest,
};
pub use oci_spec::runtime::LinuxResources;
pub use opaque::Opaque;
pub use passwd::user_name;
pub use properties::{PROPERTIES, Place, place};
pub use record::{
    CgroupPaths, CloneRecord, HierarchyPath, HookEntry, Manager, Process, RECORD_VERSION, Record, RecordState,
    RuleRecord, UnitRecord,
};
pub use statistics::{BlockIoEntry, Hugetlb, Pressure, Stall, Statistics};
pub use terminal::Terminal;
pub use verdict::{Remark, Verdict};
