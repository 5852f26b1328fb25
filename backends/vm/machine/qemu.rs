//! QEMU's command line, as a function of what the machine is to be.

use crate::guest;
use crate::wire::PORT;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use wharf_core::{Error, Kind, Result};

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Accelerator {
    /// The processor, by the kernel's help.
    Kvm,
    /// QEMU, one by one.
    Tcg,
}

impl Accelerator {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        }
    }
}

/// All that is decided of a machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) qemu: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
    /// MiB.
    pub(crate) memory: u64,
    pub(crate) cpus: u32,
}

/// The numbers of the descriptors that QEMU inherits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    pub(crate) channel: i32,
    pub(crate) control: i32,
    pub(crate) console: i32,
}

/// What a machine has besides itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attached {
    /// The directory that the guest sees.
    pub(crate) share: Option<String>,
    /// The file of its disk.
    pub(crate) disk: Option<PathBuf>,
    /// Descriptors, with the address of the interface that the guest has at each.
    pub(crate) taps: Vec<(i32, String)>,
}

/// MiB of translated code, which takes up to a gigabyte beside the machine's memory otherwise.
const TRANSLATIONS: &str = "tb-size=64";

impl Machine {
    /// Words after the program's name.
    pub(crate) fn words(&self, accelerator: Accelerator, numbers: Numbers, attached: &Attached) -> Vec<String> {
        let Numbers { channel, control, console } = numbers;
        let (kernel, initrd) = (self.kernel.display(), self.initrd.display());
        let (processor, acceleration, emulated) = match accelerator {
            Accelerator::Kvm => ("host", "kvm".to_owned(), ""),
            // Emulation has no speculation that mitigations would hold off, and its boot is long enough.
            Accelerator::Tcg => (
                "max",
                format!("tcg,{TRANSLATIONS}"),
                " mitigations=off nokaslr tsc=reliable no_timer_check cryptomgr.notests",
            ),
        };
        let command_line = format!(
            "rdinit={} console=ttyS0 quiet loglevel=1 panic=-1 apparmor=0 selinux=0 random.trust_cpu=on{emulated}",
            guest::PROGRAM
        );
        let words: Vec<String> = [
            "-nodefaults",
            "-no-user-config",
            "-display none",
            "-no-reboot",
            "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
            "-machine q35,usb=off,smbus=off,sata=off,hpet=off",
            &format!("-accel {acceleration}"),
            &format!("-cpu {processor}"),
            &format!("-m {}", self.memory),
            &format!("-smp {}", self.cpus),
            "-device virtio-serial-pci,max_ports=2",
            &format!("-chardev socket,id=channel,fd={channel}"),
            &format!("-device virtserialport,chardev=channel,name={PORT}"),
            &format!("-chardev socket,id=control,fd={control}"),
            "-mon chardev=control,mode=control",
            &format!("-chardev socket,id=console,fd={console}"),
            "-serial chardev:console",
            "-device virtio-rng-pci",
        ]
        .iter()
        .flat_map(|word| word.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .collect();
        // Paths may hold blanks; a comma is doubled in QEMU's options.
        let mut others =
            vec![("-kernel", kernel.to_string()), ("-initrd", initrd.to_string()), ("-append", command_line)];
        if let Some(share) = &attached.share {
            let path = doubled(share);
            others.push(("-fsdev", format!("local,id=share,path={path},security_model=passthrough,multidevs=remap")));
            others.push(("-device", "virtio-9p-pci,fsdev=share,mount_tag=wharf".to_owned()));
        }
        if let Some(disk) = &attached.disk {
            let path = doubled(&disk.to_string_lossy());
            others.push((
                "-blockdev",
                format!("driver=raw,node-name=disk,file.driver=file,file.filename={path},discard=unmap"),
            ));
            others.push(("-device", "virtio-blk-pci,drive=disk".to_owned()));
        }
        for (at, (tap, mac)) in attached.taps.iter().enumerate() {
            others.push(("-netdev", format!("tap,id=net{at},fd={tap},vhost=off")));
            // Without a program to boot from, which is a file of its own.
            others.push(("-device", format!("virtio-net-pci,netdev=net{at},mac={mac},romfile=")));
        }
        words.into_iter().chain(others.into_iter().flat_map(|(option, value)| [option.to_owned(), value])).collect()
    }
}

fn doubled(path: &str) -> String {
    path.replace(',', ",,")
}

/// Where it is looked for without a configuration. $PATH is the caller's, and not trusted with this.
const PLACES: &[&str] = &["/usr/local/bin/qemu-system-x86_64", "/usr/bin/qemu-system-x86_64"];

pub(crate) fn find(configured: Option<&Path>) -> Result<PathBuf> {
    match configured {
        Some(path) if path.is_file() => Ok(path.to_owned()),
        Some(path) => {
            Err(Error::new(Kind::System, format!("use {}", path.display())).because("there is no such program"))
        }
        None => PLACES.iter().map(PathBuf::from).find(|path| path.is_file()).ok_or_else(|| {
            Error::new(Kind::System, "find QEMU for virtual machines")
                .because(format!("there is none of {}", PLACES.join(", ")))
                .hint("install qemu-system-x86, or name it by vm.qemu_path in the configuration")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_nothing_that_was_not_asked_for() {
        let machine = Machine { qemu: "/q".into(), kernel: "/k, l".into(), initrd: "/i".into(), memory: 256, cpus: 2 };
        let numbers = Numbers { channel: 3, control: 4, console: 5 };
        let attached = Attached {
            share: Some("/a,b c".to_owned()),
            disk: Some("/d,e".into()),
            taps: vec![(9, "02:00:00:00:00:01".to_owned())],
        };
        let words = machine.words(Accelerator::Kvm, numbers, &attached);
        for (option, value) in [
            ("-kernel", "/k, l"),
            ("-m", "256"),
            ("-smp", "2"),
            ("-cpu", "host"),
            ("-blockdev", "driver=raw,node-name=disk,file.driver=file,file.filename=/d,,e,discard=unmap"),
            ("-netdev", "tap,id=net0,fd=9,vhost=off"),
            ("-accel", "kvm"),
            ("-fsdev", "local,id=share,path=/a,,b c,security_model=passthrough,multidevs=remap"),
        ] {
            let at = words.iter().position(|word| word == option).unwrap();
            assert_eq!(words[at + 1], value, "{option}");
        }
        assert!(
            words.iter().any(|word| word == "-nodefaults") && !words.iter().any(|word| word.contains("mitigations"))
        );
        let bare = machine.words(Accelerator::Tcg, numbers, &Attached::default());
        assert!(bare.iter().any(|word| word.contains("mitigations=off")));
        assert!(!bare.iter().any(|word| ["9p", "-blockdev", "-netdev"].iter().any(|part| word.contains(part))));
    }
}
