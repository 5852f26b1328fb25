//! Performs a plan in the process that becomes the payload, and reports the step that failed.
//!
//! It runs from a sealed copy of wharf: whatever a container does through `/proc/self/exe`, it never reaches the
//! installed file (CVE-2019-5736). It knows nothing of the spec; every judgment is in the plan.
#![forbid(unsafe_code)]

mod become_payload;
mod mount;
mod perform;
mod target;

pub use perform::main;

/// Name under which the sealed copy is executed.
pub const NAME: &std::ffi::CStr = c"wharf-init";
