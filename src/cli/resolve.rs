//! Turns matched words into what they mean, once.

use super::request::{Action, ConfigAction, Create, Events, ListFormat, LogOptions, Plan, Request, Resources};
use super::{Caller, administer, images, resources, signal};
use crate::config::{self, Configuration, Options, Origin, Setting};
use clap::ArgMatches;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wharf_core::phases;
use wharf_core::{ContainerId, Error, Exec, Kind, Result, User, duration};

/// The log options are completed from the configuration.
pub(super) fn request(matches: &ArgMatches, caller: &Caller, log: &mut LogOptions) -> Result<Request> {
    let Some((verb, words)) = matches.subcommand() else {
        return Err(Error::new(Kind::Usage, "no verb is given"));
    };
    (log.timings, log.trace) = (matches.get_flag("timings"), path(matches, "trace"));
    if log.timings || log.trace.is_some() {
        let id = words.try_get_one::<String>("container-id").ok().flatten();
        log.timed = Some(["wharf", verb].into_iter().chain(id.map(String::as_str)).collect::<Vec<_>>().join(" "));
    }
    phases::enter("configuration");
    let typed = |name: &str| matches.contains_id(name) && matches.value_source(name).is_some();
    let found = config::find(path(matches, "config").as_deref(), caller.configuration.clone())
        .and_then(|found| Ok((found.as_ref().map(Configuration::options).transpose()?.unwrap_or_default(), found)));
    let (options, configuration, ignored) = match found {
        Ok((options, configuration)) => (options, configuration, None),
        Err(error) if bears_a_broken_one(verb, words, typed("root")) => (Options::default(), None, Some(error)),
        Err(error) => return Err(error),
    };
    let typed_log = log.file.is_some();
    if log.file.is_none() {
        log.file = options.log;
    }
    if let (Some(json), false) = (options.json, typed("log-format")) {
        log.json = json;
    }
    if let (Some(level), false, false) = (options.level, typed("log-level"), matches.get_flag("debug")) {
        log.level = level;
    }
    let criu = path(matches, "criu");
    let mut action = match verb {
        "checkpoint" => images::checkpoint(words, criu).map(Box::new).map(Action::Checkpoint)?,
        "restore" => images::restore(words, criu).map(Box::new).map(Action::Restore)?,
        _ => action(verb, words)?,
    };
    let root = match &action {
        // They have nothing to do with containers.
        Action::Config(ConfigAction::Check { .. } | ConfigAction::Import { .. }) => PathBuf::new(),
        // Verbs that look at no record do without.
        other => match root(path(matches, "root").or(options.root), caller) {
            Err(_)
                if matches!(
                    other,
                    Action::Features | Action::Plan(_) | Action::Spec { .. } | Action::Doctor { .. }
                ) =>
            {
                PathBuf::new()
            }
            root => root?,
        },
    };
    let backend = matches.get_one::<String>("backend").cloned();
    if let Action::Config(ConfigAction::Show { settings, .. }) = &mut action {
        let option = |option| Some(Origin::Option { option });
        let level = if matches.get_flag("debug") { "--debug" } else { "--log-level" };
        let of = |key: &str, value: serde_json::Value, typed: Option<Origin>| Setting {
            key: key.to_owned(),
            value,
            origin: typed.unwrap_or(Origin::Default),
        };
        *settings = vec![
            of("root", root.to_string_lossy().into(), option("--root").filter(|_| typed("root"))),
            of(
                "log.file",
                log.file.as_ref().map(|path| path.to_string_lossy().into_owned()).into(),
                option("--log").filter(|_| typed_log),
            ),
            of(
                "log.format",
                if log.json { "json" } else { "text" }.into(),
                option("--log-format").filter(|_| typed("log-format")),
            ),
            of(
                "log.level",
                log.level.word().into(),
                option(level).filter(|_| typed("log-level") || matches.get_flag("debug")),
            ),
            of(
                "default_backend",
                backend.as_deref().unwrap_or("native").into(),
                option("--backend").filter(|_| backend.is_some()),
            ),
        ];
    }
    Ok(Request {
        root,
        backend,
        argv0: caller.argv0.clone(),
        configuration,
        ignored,
        systemd_cgroup: matches.get_flag("systemd-cgroup"),
        rootless: matches.get_one::<String>("rootless").cloned(),
        action,
    })
}

/// Whether a verb can do without a configuration that cannot be read: one that makes no container and knows where the
/// records are. A running container must not be lost to a slip of the editor.
fn bears_a_broken_one(verb: &str, words: &ArgMatches, root_is_known: bool) -> bool {
    match verb {
        "create" | "run" | "restore" | "plan" | "route" => false,
        "config" => words.get_one::<String>("file").is_some(),
        "spec" | "features" | "doctor" => true,
        _ => root_is_known,
    }
}

fn action(verb: &str, words: &ArgMatches) -> Result<Action> {
    Ok(match verb {
        "create" => Action::Create(create(words)?),
        "run" => Action::Run { create: create(words)?, detach: words.get_flag("detach"), keep: words.get_flag("keep") },
        "start" => Action::Start { id: id(words)? },
        "state" => Action::State { id: id(words)? },
        "kill" => Action::Kill {
            id: id(words)?,
            signal: match words.get_one::<String>("signal") {
                Some(text) => signal::parse(text)?,
                None => signal::TERM,
            },
            all: words.get_flag("all"),
        },
        "wait" => Action::Wait {
            id: id(words)?,
            json: words.get_one::<String>("format").is_some_and(|format| format == "json"),
        },
        "delete" => Action::Delete { id: id(words)?, force: words.get_flag("force") },
        "exec" => Action::Exec { id: id(words)?, exec: Box::new(exec(words)?) },
        "pause" => Action::Pause { id: id(words)? },
        "resume" => Action::Resume { id: id(words)? },
        "ps" => Action::Ps { id: id(words)?, format: format(words), options: rest(words, "ps-options") },
        "events" => Action::Events(events(words)?),
        "update" => Action::Update { id: id(words)?, from: limits(words)? },
        "list" => Action::List { format: format(words), quiet: words.get_flag("quiet") },
        "gc" => {
            Action::Gc { apply: words.get_flag("apply"), stopped: words.get_flag("stopped"), format: format(words) }
        }
        "checkpoints" => Action::Checkpoints(administer::checkpoints(words)?),
        "spec" => Action::Spec {
            bundle: path(words, "bundle").unwrap_or_else(|| ".".into()),
            rootless: words.get_flag("rootless"),
        },
        "features" => Action::Features,
        "doctor" => Action::Doctor { format: format(words) },
        "plan" => Action::Plan(Plan {
            id: match words.get_one::<String>("container-id") {
                Some(id) => ContainerId::new(id)?,
                None => ContainerId::new("planned")?,
            },
            bundle: path(words, "bundle").unwrap_or_else(|| ".".into()),
            json: words.get_one::<String>("format").is_some_and(|format| format == "json"),
        }),
        "config" => Action::Config(administer::configuration(words)?),
        "route" => Action::Explain(administer::explain(words)?),
        other => return Err(Error::new(Kind::Usage, format!("unknown verb {other:?}"))),
    })
}

fn create(words: &ArgMatches) -> Result<Create> {
    Ok(Create {
        id: id(words)?,
        bundle: path(words, "bundle").unwrap_or_else(|| ".".into()),
        console_socket: path(words, "console-socket"),
        pidfd_socket: path(words, "pidfd-socket"),
        pid_file: path(words, "pid-file"),
        preserve_fds: words.get_one::<u32>("preserve-fds").copied().unwrap_or(0),
        no_pivot: words.get_flag("no-pivot"),
        no_new_keyring: words.get_flag("no-new-keyring"),
        no_subreaper: words.try_get_one("no-subreaper").ok().flatten().copied().unwrap_or(false),
    })
}

fn exec(words: &ArgMatches) -> Result<Exec> {
    let text = |name: &str| words.get_one::<String>(name).filter(|text| !text.is_empty()).cloned();
    let texts = |name: &str| words.get_many::<String>(name).into_iter().flatten().cloned().collect::<Vec<_>>();
    let exec =
        Exec {
            process: path(words, "process"),
            args: rest(words, "command").into_iter().map(OsString::into_string).collect::<Result<_, _>>().map_err(
                |word| Error::new(Kind::Usage, format!("exec: {:?}", word.display())).because("is not UTF-8"),
            )?,
            tty: words.get_flag("tty"),
            user: text("user").map(|text| user(&text)).transpose()?,
            additional_gids: words.get_many::<u32>("additional-gids").into_iter().flatten().copied().collect(),
            cwd: text("cwd"),
            env: texts("env"),
            capabilities: texts("cap"),
            apparmor: text("apparmor"),
            process_label: text("process-label"),
            no_new_privileges: words.get_one::<bool>("no-new-privs").copied(),
            preserve_fds: words.get_one::<u32>("preserve-fds").copied().unwrap_or(0),
            ignore_paused: words.get_flag("ignore-paused"),
            cgroups: texts("cgroup"),
            detach: words.get_flag("detach"),
            pid_file: path(words, "pid-file"),
            exit_record: path(words, "exit-record"),
            pidfd_socket: path(words, "pidfd-socket"),
            console_socket: path(words, "console-socket"),
        };
    if exec.detach && exec.exit_record.is_some() {
        return Err(
            Error::new(Kind::Usage, "exec: --exit-record with --detach").because("nobody waits for the process then")
        );
    }
    match (&exec.process, exec.args.is_empty()) {
        (None, true) => Err(Error::new(Kind::Usage, "exec: no command is given").hint("or a process with --process")),
        (Some(_), false) => {
            Err(Error::new(Kind::Usage, "exec: a command is given both by --process and on the command line"))
        }
        _ => Ok(exec),
    }
}

/// Numbers only: what a name means is for the image to say, and it may say that `1` is root (CVE-2016-3697).
fn user(text: &str) -> Result<User> {
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        // The largest one means "do not change" to the kernel (setresuid(2)).
        digits.parse().ok().filter(|number| plain && *number != u32::MAX)
    };
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (number(uid), Some(number(gid))),
        None => (number(text), None),
    };
    match (uid, gid) {
        (Some(uid), None) => Ok(User { uid, gid: None }),
        (Some(uid), Some(Some(gid))) => Ok(User { uid, gid: Some(gid) }),
        _ => {
            Err(Error::new(Kind::Usage, format!("exec: {text:?} is no value for --user")).hint("UID[:GID], in numbers"))
        }
    }
}

pub(super) fn id(words: &ArgMatches) -> Result<ContainerId> {
    ContainerId::new(words.get_one::<String>("container-id").map_or("", String::as_str))
}

fn events(words: &ArgMatches) -> Result<Events> {
    let usage = |text: &str| Error::new(Kind::Usage, format!("events: {text}"));
    let of = match (words.contains_id("container-id"), words.get_flag("all")) {
        (true, false) => Some(id(words)?),
        (false, true) => None,
        (true, true) => return Err(usage("a container id and --all").because("it is one or all")),
        (false, false) => return Err(usage("a container id is missing").hint("or --all")),
    };
    let prometheus = words.get_one::<String>("format").is_some_and(|format| format == "prometheus");
    let interval = interval(words)?;
    if let (Some(_), Some(option)) =
        (interval, if prometheus { Some("--format prometheus") } else { of.is_none().then_some("--all") })
    {
        return Err(usage(option).because("tells once").hint("add --stats, and call it again for each scrape"));
    }
    Ok(Events { of, interval, prometheus })
}

fn interval(words: &ArgMatches) -> Result<Option<Duration>> {
    let text = words.get_one::<String>("interval").map_or("5s", String::as_str);
    let interval = duration::parse(text).filter(|interval| !interval.is_zero()).ok_or_else(|| {
        Error::new(Kind::Usage, format!("events: --interval {text:?}")).because("is a time above 0, as 5s or 1m30s")
    })?;
    Ok((!words.get_flag("stats")).then_some(interval))
}

fn limits(words: &ArgMatches) -> Result<Resources> {
    let Some(file) = path(words, "resources") else { return resources::typed(words).map(Resources::Typed) };
    // runc ignores the other one.
    if let Some(other) = resources::first_given(words) {
        return Err(
            Error::new(Kind::Usage, format!("update: --resources and --{other}")).because("limits come from one place")
        );
    }
    Ok(if file == Path::new("-") { Resources::Stdin } else { Resources::File(file) })
}

pub(super) fn format(words: &ArgMatches) -> ListFormat {
    match words.get_one::<String>("format").map(String::as_str) {
        Some("json") => ListFormat::Json,
        _ => ListFormat::Table,
    }
}

fn rest(words: &ArgMatches, name: &str) -> Vec<OsString> {
    words.get_many::<OsString>(name).unwrap_or_default().cloned().collect()
}

/// An empty path counts as not given: engines pass `--console-socket ""`.
pub(super) fn path(words: &ArgMatches, name: &str) -> Option<PathBuf> {
    words.get_one::<OsString>(name).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn root(named: Option<PathBuf>, caller: &Caller) -> Result<PathBuf> {
    let path = match named {
        Some(path) => path,
        None if caller.uid == 0 && !caller.nested => return Ok(PathBuf::from("/run/wharf")),
        None => match caller.runtime_dir.as_deref().map(Path::new).filter(|dir| dir.is_absolute()) {
            Some(dir) => return Ok(dir.join("wharf")),
            None => {
                return Err(Error::new(Kind::Usage, "choose the directory of the records")
                    .because("XDG_RUNTIME_DIR is not set")
                    .hint("give --root"));
            }
        },
    };
    std::path::absolute(&path)
        .map_err(|error| Error::new(Kind::System, format!("resolve --root {}", path.display())).because(error))
}
