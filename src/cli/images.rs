//! `checkpoint` and `restore`, in words.

use super::request::{Checkpoint, Create, Restore};
use super::resolve::{id, path};
use clap::ArgMatches;
use std::path::PathBuf;
use wharf_core::{CgroupsMode, ContainerId, Error, Images, Kind, Result};

pub(super) fn checkpoint(words: &ArgMatches, criu: Option<PathBuf>) -> Result<Checkpoint> {
    let usage = |what: String| Error::new(Kind::Usage, format!("checkpoint: {what}"));
    let parent = path(words, "parent-path").map(|path| path.to_string_lossy().into_owned());
    if let Some(parent) = parent.as_deref().filter(|parent| parent.starts_with('/')) {
        return Err(usage(format!("--parent-path {parent}")).because("must be relative to --image-path"));
    }
    let page_server = words.get_one::<String>("page-server").filter(|text| !text.is_empty());
    let page_server = page_server.map(|text| {
        let split = text.rsplit_once(':').and_then(|(address, port)| Some((address, port.parse().ok()?)));
        let split = split.filter(|(address, port)| !address.is_empty() && *port != 0);
        let split = split.map(|(address, port)| (address.trim_matches(['[', ']']).to_owned(), port));
        split.ok_or_else(|| usage(format!("{text:?} is no value for --page-server")).hint("ADDRESS:PORT"))
    });
    let status_fd = match words.get_one::<u32>("status-fd") {
        None => None,
        Some(number) if wharf_sys::fd::is_inherited(*number) => Some(*number as i32),
        Some(number) => {
            return Err(usage(format!("--status-fd {number}")).because("the caller has not handed that descriptor on"));
        }
    };
    let (pre_dump, leave_running) = (words.get_flag("pre-dump"), words.get_flag("leave-running"));
    let asked = Checkpoint {
        id: id(words)?,
        name: name(words)?,
        zfs: words.get_one::<String>("disk").map(|kind| kind == "zfs"),
        only_check: words.get_flag("check"),
        wanted: wharf_core::Checkpoint {
            images: images(words, criu)?,
            parent,
            leave_running,
            pre_dump,
            tcp_skip_in_flight: words.get_flag("tcp-skip-in-flight"),
            link_remap: words.get_flag("link-remap"),
            status_fd,
            page_server: page_server.transpose()?,
        },
    };
    if pre_dump && (asked.name.is_some() || asked.zfs == Some(true)) {
        return Err(usage("--pre-dump".to_owned())
            .because("makes no checkpoint, so it has no name and no disk")
            .hint("give --image-path alone"));
    }
    Ok(asked)
}

pub(super) fn restore(words: &ArgMatches, criu: Option<PathBuf>) -> Result<Restore> {
    let usage = |what: &str| Error::new(Kind::Usage, format!("restore: {what}"));
    let new = words.get_one::<String>("as").map(|text| ContainerId::new(text)).transpose()?;
    let count = words.get_one::<u32>("count").copied();
    let detach = words.get_flag("detach");
    let text = |name: &str| words.get_one::<String>(name).filter(|text| !text.is_empty()).cloned();
    let asked = Restore {
        create: Create {
            id: id(words)?,
            bundle: path(words, "bundle").unwrap_or_default(),
            console_socket: path(words, "console-socket"),
            pidfd_socket: None,
            pid_file: path(words, "pid-file"),
            preserve_fds: 0,
            no_pivot: words.get_flag("no-pivot"),
            no_new_keyring: false,
            no_subreaper: words.get_flag("no-subreaper"),
        },
        name: name(words)?,
        detach,
        new,
        count,
        verify: words.get_flag("verify"),
        rollback: words.get_flag("rollback"),
        wanted: wharf_core::Restore {
            images: images(words, criu)?,
            lsm_profile: text("lsm-profile"),
            lsm_mount_context: text("lsm-mount-context"),
            ..Default::default()
        },
    };
    match count {
        Some(0) => Err(usage("--count 0").because("makes nothing")),
        Some(_) if !detach => {
            Err(usage("--count").because("only one container can be waited for").hint("give --detach"))
        }
        Some(_) if asked.create.pid_file.is_some() || asked.create.console_socket.is_some() => {
            Err(usage("--count").because("--pid-file and --console-socket are of one container"))
        }
        _ => Ok(asked),
    }
}

fn name(words: &ArgMatches) -> Result<Option<String>> {
    let name = words.get_one::<String>("name").cloned();
    match (&name, path(words, "image-path")) {
        (Some(name), Some(path)) => {
            Err(Error::new(Kind::Usage, format!("--name {name} and --image-path {}", path.display()))
                .because("a checkpoint is in one place"))
        }
        _ => Ok(name),
    }
}

fn images(words: &ArgMatches, criu: Option<PathBuf>) -> Result<Images> {
    let absolute = |path: PathBuf| {
        std::path::absolute(&path)
            .map_err(|error| Error::new(Kind::System, format!("resolve {}", path.display())).because(error))
    };
    Ok(Images {
        path: absolute(path(words, "image-path").unwrap_or_else(|| "checkpoint".into()))?,
        work: path(words, "work-path").map(absolute).transpose()?,
        criu,
        tcp_established: words.get_flag("tcp-established"),
        ext_unix_sk: words.get_flag("ext-unix-sk"),
        shell_job: words.get_flag("shell-job"),
        file_locks: words.get_flag("file-locks"),
        auto_dedup: words.get_flag("auto-dedup"),
        lazy_pages: words.get_flag("lazy-pages"),
        cgroups: match words.get_one::<String>("manage-cgroups-mode").map(String::as_str) {
            Some("full") => CgroupsMode::Full,
            Some("strict") => CgroupsMode::Strict,
            Some("ignore") => CgroupsMode::Ignore,
            _ => CgroupsMode::Soft,
        },
    })
}
