//! Turns a spec into what has to be done, and performs nothing.
#![forbid(unsafe_code)]

pub mod seccomp;
