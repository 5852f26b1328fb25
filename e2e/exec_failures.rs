//! Why a program cannot be executed: the message tells the cause.

use harness::{Bundle, Feature, Host, Stop, ensure, json};
use std::os::unix::fs::PermissionsExt;

/// A bundle whose program is this file.
fn with_file(host: &Host, bytes: &[u8], mode: u32) -> Result<Bundle, Stop> {
    let bundle = host.bundle()?.args(&["/bin/program"]);
    let path = bundle.rootfs().join("bin/program");
    std::fs::write(&path, bytes)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
    Ok(bundle)
}

/// The failure must have all of these words, the errno's in small letters; wharf only, for a peer the failure is enough.
fn fails(host: &Host, bundle: &Bundle, words: &[&str]) -> Result<(), Stop> {
    let ran = host.run(bundle)?;
    ensure!(ran.code() != Some(0), "it ran: {}", ran.finished);
    if host.runtime.name() == "wharf" {
        let text = ran.finished.last_line();
        for word in words {
            ensure!(text.contains(word), "no {word:?} in {text:?}");
        }
    }
    Ok(())
}

/// The payload with bytes of its ELF header changed (elf(5)).
fn altered(host: &Host, at: usize, bytes: &[u8]) -> Result<Vec<u8>, Stop> {
    let mut program = std::fs::read(host.payload())?;
    program[at..at + bytes.len()].copy_from_slice(bytes);
    Ok(program)
}

/// A minimal dynamic program: an ELF header and one PT_INTERP that names a loader.
fn dynamic(loader: &str) -> Vec<u8> {
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let mut elf = vec![0u8; 64 + 2 * 56];
    elf[..16].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    elf[16..18].copy_from_slice(&2u16.to_le_bytes());
    elf[18..20].copy_from_slice(&machine.to_le_bytes());
    elf[20..24].copy_from_slice(&1u32.to_le_bytes());
    elf[24..32].copy_from_slice(&0x40_0000u64.to_le_bytes());
    elf[32..40].copy_from_slice(&64u64.to_le_bytes());
    elf[52..54].copy_from_slice(&64u16.to_le_bytes());
    elf[54..56].copy_from_slice(&56u16.to_le_bytes());
    elf[56..58].copy_from_slice(&2u16.to_le_bytes());
    let offset = elf.len() as u64;
    let length = loader.len() as u64 + 1;
    let mut header = |slot: usize, kind: u32, flags: u32, offset: u64, address: u64, length: u64, align: u64| {
        let at = 64 + slot * 56;
        elf[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        elf[at + 4..at + 8].copy_from_slice(&flags.to_le_bytes());
        for (index, value) in [offset, address, address, length, length, align].into_iter().enumerate() {
            elf[at + 8 + index * 8..at + 16 + index * 8].copy_from_slice(&value.to_le_bytes());
        }
    };
    header(0, 3, 4, offset, 0x40_0000 + offset, length, 1);
    header(1, 1, 5, 0, 0x40_0000, offset + length, 0x1000);
    elf.extend_from_slice(loader.as_bytes());
    elf.push(0);
    elf
}

pub(crate) fn trials() -> Feature {
    Feature::new("exec_failures")
        .trial("a missing file", |host| {
            fails(host, &host.bundle()?.args(&["/bin/missing"]), &["/bin/missing", "no such file or directory"])
        })
        .trial("a command that is nowhere in PATH", |host| {
            fails(host, &host.bundle()?.args(&["missing"]), &["\"missing\"", "executable file not found in $PATH"])
        })
        .trial("a script whose interpreter is missing", |host| {
            let bundle = with_file(host, b"#!/opt/no-such-shell -e\necho hi\n", 0o755)?;
            fails(host, &bundle, &["/bin/program", "interpreter", "/opt/no-such-shell"])
        })
        .trial("a script with Windows line ends", |host| {
            let bundle = with_file(host, b"#!/bin/payload\r\necho hi\r\n", 0o755)?;
            fails(host, &bundle, &["/bin/program", "line ends"])
        })
        .trial("a program whose loader is missing", |host| {
            let bundle = with_file(host, &dynamic("/lib64/no-such-ld.so"), 0o755)?;
            fails(host, &bundle, &["/bin/program", "loader", "/lib64/no-such-ld.so"])
        })
        .trial("a program for another architecture", |host| {
            // e_machine: 243 is RISC-V.
            let bundle = with_file(host, &altered(host, 18, &[243, 0])?, 0o755)?;
            fails(host, &bundle, &["/bin/program", "risc"])
        })
        .trial("a directory", |host| fails(host, &host.bundle()?.args(&["/var"]), &["/var", "directory"]))
        .trial("a file without permission to execute", |host| {
            let bundle = with_file(host, &std::fs::read(host.payload())?, 0o644)?;
            fails(host, &bundle, &["/bin/program", "permission denied"])
        })
        .trial("a file that its user may not execute", |host| {
            let bundle = with_file(host, &std::fs::read(host.payload())?, 0o700)?;
            fails(host, &bundle.set("/process/user/uid", json!(1000)), &["/bin/program", "permission denied"])
        })
        .trial("a file system mounted noexec", |host| {
            let source = host.new_dir("source")?;
            std::fs::copy(host.payload(), source.join("program"))?;
            let bundle = host
                .bundle()?
                .mount("/opt", "bind", source.to_str().unwrap_or_default(), &["bind", "noexec"])
                .args(&["/opt/program"]);
            fails(host, &bundle, &["/opt/program", "noexec"])
        })
        .trial("a text without an interpreter line", |host| {
            fails(host, &with_file(host, b"echo hello\n", 0o755)?, &["/bin/program", "#!"])
        })
        .trial("an empty file", |host| fails(host, &with_file(host, b"", 0o755)?, &["/bin/program", "empty"]))
        .trial("a file as a directory on the way", |host| {
            fails(host, &host.bundle()?.args(&["/etc/passwd/program"]), &["/etc/passwd/program", "not a directory"])
        })
        .trial("a loop of symbolic links", |host| {
            let bundle = host.bundle()?.symlink("loop", "/bin/loop")?.args(&["/bin/loop"]);
            fails(host, &bundle, &["/bin/loop", "symbolic link"])
        })
}
