//! bpf(2), as far as device rules of a cgroup v2 need it: load, attach, query, detach.

use crate::fd::own;
use crate::{Errno, Result, check};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const PROG_GET_FD_BY_ID: i32 = 13;
const PROG_QUERY: i32 = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 1 << 1;
const F_REPLACE: u32 = 1 << 2;

/// One instruction (struct bpf_insn): opcode, registers (source in the high half), jump offset, immediate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    pub code: u8,
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

fn bpf<T>(command: i32, attributes: &mut T) -> Result<libc::c_long> {
    // SAFETY: every caller passes a zero-initialised prefix of union bpf_attr of its command, with its size; pointers
    // in it are live for the call.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) })
}

/// Loads a program that judges access to devices.
pub fn load_device_program(program: &[Instruction]) -> Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log: [u32; 2],
        log_buffer: u64,
        kernel_version: u32,
        flags: u32,
    }
    let license = c"GPL";
    let mut attributes = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log: [0; 2],
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
    };
    loop {
        match bpf(PROG_LOAD, &mut attributes) {
            // The verifier gives way to pending signals.
            Err(Errno::EAGAIN) => {}
            other => return own(other?),
        }
    }
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// Attaches a program to a cgroup beside those of others (`BPF_F_ALLOW_MULTI`: access needs the consent of all), or in
/// the place of `replaced`.
pub fn attach_device_program(cgroup: impl AsFd, program: impl AsFd, replaced: Option<&OwnedFd>) -> Result<()> {
    let mut attributes = Attach {
        target: cgroup.as_fd().as_raw_fd() as u32,
        program: program.as_fd().as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        flags: F_ALLOW_MULTI | if replaced.is_some() { F_REPLACE } else { 0 },
        replaced: replaced.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    bpf(PROG_ATTACH, &mut attributes).map(drop)
}

pub fn detach_device_program(cgroup: impl AsFd, program: impl AsFd) -> Result<()> {
    let mut attributes = Attach {
        target: cgroup.as_fd().as_raw_fd() as u32,
        program: program.as_fd().as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        flags: 0,
        replaced: 0,
    };
    bpf(PROG_DETACH, &mut attributes).map(drop)
}

/// The device programs attached to this very cgroup, at most 64.
pub fn device_programs(cgroup: impl AsFd) -> Result<Vec<OwnedFd>> {
    #[repr(C)]
    struct Query {
        target: u32,
        kind: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        padding: u32,
    }
    #[repr(C)]
    struct ById {
        id: u32,
        next: u32,
        flags: u32,
    }
    let mut ids = [0u32; 64];
    let mut attributes = Query {
        target: cgroup.as_fd().as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        padding: 0,
    };
    bpf(PROG_QUERY, &mut attributes)?;
    let mut programs = Vec::new();
    for id in &ids[..(attributes.count as usize).min(ids.len())] {
        match bpf(PROG_GET_FD_BY_ID, &mut ById { id: *id, next: 0, flags: 0 }) {
            Ok(fd) => programs.push(own(fd)?),
            // Detached since it was listed.
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(programs)
}
