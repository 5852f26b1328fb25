//! Who makes the machine: driver `qemu`. It knows nothing of what is said over the channel.

pub(crate) mod cpio;
mod disk;
pub(crate) mod drivers;
mod image;
mod qemu;

pub(crate) use disk::Disk;
pub(crate) use drivers::Parts;
pub(crate) use image::Kernel;
pub(crate) use qemu::{Accelerator, Attached, Machine, Numbers, find as find_qemu};
