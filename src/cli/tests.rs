//! Command lines of every engine and of people, and what they come to.

use super::*;
use wharf_core::{Exec, User};

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn typed(line: &str) -> (LogOptions, Result<Asked>) {
    parse(words(line), &Caller { argv0: "wharf".to_owned(), ..Caller::default() })
}

fn request(line: &str) -> Request {
    match typed(line).1 {
        Ok(Asked::Request(request)) => *request,
        other => panic!("{line}: {other:?}"),
    }
}

fn error(line: &str) -> Error {
    typed(line).1.expect_err(line)
}

fn text(line: &str) -> String {
    match typed(line).1 {
        Ok(Asked::Help(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn conmon_creates_with_its_own_and_the_engines_options() {
    let line = format!(
        "--log-format=json --log=/l --root=/r create --no-pivot --no-new-keyring --preserve-fds 2 --bundle /b \
         --pid-file /p --console-socket /s {HEX}"
    );
    let (log, _) = typed(&line);
    assert_eq!(log, LogOptions { file: Some("/l".into()), json: true, ..LogOptions::default() });
    let request = request(&line);
    assert_eq!(request.root, std::path::Path::new("/r"));
    let Action::Create(create) = request.action else { panic!() };
    assert_eq!(create.id.as_str(), HEX);
    assert_eq!(create.bundle, std::path::Path::new("/b"));
    assert_eq!(create.pid_file.as_deref(), Some(std::path::Path::new("/p")));
    assert_eq!(create.console_socket.as_deref(), Some(std::path::Path::new("/s")));
    assert_eq!(create.pidfd_socket, None);
    assert_eq!(create.preserve_fds, 2);
    assert!(create.no_pivot && create.no_new_keyring);
}

#[test]
fn both_forms_of_a_value_and_any_order_mean_the_same() {
    for line in [
        "--root=/r --log=/l create --bundle=/b --pid-file=/p c",
        "--root /r --log /l create --bundle /b --pid-file /p c",
        "--root=/r --log /l create -b /b c --pid-file /p",
        "--root /r --log=/l create c -b/b --pid-file=/p",
        "--root /x --root=/r --log /l create -b=/b --pid-file /p -- c",
    ] {
        let request = request(line);
        assert_eq!(request.root, std::path::Path::new("/r"), "{line}");
        let Action::Create(create) = request.action else { panic!("{line}") };
        assert_eq!((create.id.as_str(), create.bundle.to_str()), ("c", Some("/b")), "{line}");
        assert_eq!(create.pid_file.as_deref(), Some(std::path::Path::new("/p")), "{line}");
        assert_eq!(typed(line).0.file.as_deref(), Some(std::path::Path::new("/l")), "{line}");
    }
}

#[test]
fn every_call_of_the_engines_for_these_verbs_is_understood() {
    for line in [
        "start c",
        "kill c 9",
        "kill --all c 15",
        "kill c KILL --all",
        "delete c",
        "delete --force c",
        "state c",
        "features",
        "--root /r --log /l --log-format json --debug --rootless=auto create --bundle /b --pid-file /p --pidfd-socket /s c",
        "--root /r --log /l --log-format json start c",
        "--root /r --log /l --log-format json list --format=json",
        "--root=/r --rootless true state c",
        "--log-level debug state c",
        "--log-level warning state c",
        "--debug=true state c",
        "--debug=false state c",
        "list -q",
        "list -f json",
        "run c",
        "run --detach --keep --no-subreaper -b . c",
        "restore --image-path /i --bundle /b --detach --pid-file /p -no-subreaper c",
        "run -detach -bundle=/b c",
        "run -d c",
        "spec",
        "spec --rootless -b /b",
        "--backend crun create c",
        "--backend=/usr/bin/crun run c",
        "--systemd-cgroup kill c 9",
    ] {
        request(line);
    }
}

#[test]
fn switches_take_gos_values() {
    let level = |line| typed(line).0.level;
    assert_eq!(level("--debug state c"), Level::Debug);
    assert_eq!(level("--debug=false state c"), Level::Error);
    assert_eq!(level("--debug --log-level info state c"), Level::Debug);
    let Action::Delete { force, .. } = request("delete --force=true c").action else { panic!() };
    assert!(force);
    let Action::Delete { force, .. } = request("delete c --force=false").action else { panic!() };
    assert!(!force);
}

#[test]
fn no_new_privs_is_set_unset_or_for_the_process_to_say() {
    for (options, expected) in [
        ("", None),
        ("--no-new-privs", Some(true)),
        ("--no-new-privs=1", Some(true)),
        ("--no-new-privs=false", Some(false)),
        ("--no-new-privs=0", Some(false)),
        ("--no-new-privs --no-new-privs=false", Some(false)),
    ] {
        let Action::Exec { exec, .. } = request(&format!("exec {options} c true")).action else { panic!() };
        assert_eq!(exec.no_new_privileges, expected, "{options:?}");
    }
    assert_eq!(
        error("exec --no-new-privs=perhaps c true").to_string(),
        "exec: \"perhaps\" is no value for --no-new-privs (one of true or false)"
    );
}

#[test]
fn signals_default_to_term() {
    for (line, expected) in [("kill c", 15), ("kill c SIGKILL", 9), ("kill c usr1", 10), ("kill c 0", 0)] {
        let Action::Kill { signal, all, .. } = request(line).action else { panic!() };
        assert_eq!((signal, all), (expected, false), "{line}");
    }
}

#[test]
fn a_wrong_word_is_named_with_a_suggestion() {
    for (line, message) in [
        ("--rot /r state c", "unknown option --rot (did you mean --root?)"),
        ("create --bundel /b c", "create: unknown option --bundel (did you mean --bundle?)"),
        ("state --root /r c", "state: unknown option --root (--root is given before the verb)"),
        ("stat c", "unknown verb \"stat\" (did you mean start or state?)"),
        ("frobnicate", "unknown verb \"frobnicate\""),
        ("kill c SIGTREM", "unknown signal \"SIGTREM\" (a name as SIGTERM or a number from 0 to 64)"),
        ("kill c SIGTERMM", "unknown signal \"SIGTERMM\" (did you mean SIGTERM?)"),
        ("state c d", "state: one word too many: \"d\""),
        ("state", "state: missing <container-id>"),
        ("create --bundle", "create: --bundle needs a value"),
        ("create --preserve-fds x c", "create: \"x\" is no value for --preserve-fds"),
        ("--log-format jason state c", "state: \"jason\" is no value for --log-format (did you mean json?)"),
        ("", "no verb is given (see wharf --help)"),
        ("state a/b", "container id \"a/b\": may hold only letters, digits and _ + - . and not begin with a dot"),
    ] {
        let error = error(line);
        assert_eq!(error.kind(), Kind::Usage, "{line}");
        assert_eq!(error.to_string(), message, "{line}");
    }
}

#[test]
fn options_of_exec_end_where_its_command_begins() {
    for line in [
        "exec -u 5:6 -e A=1 --env B=2 -g 7 --additional-gids=8 -c CHOWN --cap KILL -d c sh -c -x --",
        "exec -du 5:6 -e=A=1 -eB=2 -g7 -g 8 -cCHOWN c -c KILL sh -c -x --",
        "exec --user=5:6 c --env A=1 --env=B=2 -g 7 -g 8 --cap CHOWN --cap=KILL --detach -- sh -c -x --",
        "exec -d -u 5:6 -e A=1 -e B=2 -g 7 -g 8 -c CHOWN -c KILL -- c sh -c -x --",
    ] {
        let Action::Exec { id, exec } = request(line).action else { panic!("{line}") };
        assert_eq!(id.as_str(), "c", "{line}");
        let expected = Exec {
            args: ["sh", "-c", "-x", "--"].map(String::from).to_vec(),
            user: Some(User { uid: 5, gid: Some(6) }),
            env: ["A=1", "B=2"].map(String::from).to_vec(),
            additional_gids: vec![7, 8],
            capabilities: ["CHOWN", "KILL"].map(String::from).to_vec(),
            detach: true,
            ..Exec::default()
        };
        assert_eq!(*exec, expected, "{line}");
    }
}

#[test]
fn engines_hand_a_process_file_to_exec() {
    let line = "--root /r --log /l --log-format json exec --process /p.json --pid-file /f --detach --console-socket /s \
         --pidfd-socket /q c";
    let Action::Exec { exec, .. } = request(line).action else { panic!("{line}") };
    let expected = Exec {
        process: Some("/p.json".into()),
        pid_file: Some("/f".into()),
        console_socket: Some("/s".into()),
        pidfd_socket: Some("/q".into()),
        detach: true,
        ..Exec::default()
    };
    assert_eq!(*exec, expected);
    let line = "exec -p /p --cwd / --apparmor a --process-label l --no-new-privs --preserve-fds 2 --ignore-paused \
                --cgroup cpu:/a --cgroup memory:b --tty --no-subreaper c";
    let Action::Exec { exec, .. } = request(line).action else { panic!("{line}") };
    assert_eq!((exec.cwd.as_deref(), exec.apparmor.as_deref()), (Some("/"), Some("a")));
    assert_eq!((exec.process_label.as_deref(), exec.preserve_fds), (Some("l"), 2));
    assert_eq!(exec.cgroups, ["cpu:/a", "memory:b"]);
    assert!(exec.no_new_privileges == Some(true) && exec.ignore_paused && exec.tty && !exec.detach);
}

#[test]
fn exec_without_a_command_or_with_two_is_refused() {
    assert!(error("exec c").to_string().contains("no command is given"));
    assert!(error("exec -d c --").to_string().contains("no command is given"));
    assert!(error("exec -p /p c sh").to_string().contains("both by --process and on the command line"));
    assert!(error("exec").to_string().contains("missing"));
}

#[test]
fn a_user_of_exec_is_one_or_two_numbers_and_nothing_else() {
    for (text, uid, gid) in
        [("0", 0, None), ("1", 1, None), ("007:8", 7, Some(8)), ("4294967294:0", u32::MAX - 1, Some(0))]
    {
        let Action::Exec { exec, .. } = request(&format!("exec -u {text} c sh")).action else { panic!("{text}") };
        assert_eq!(exec.user, Some(User { uid, gid }), "{text}");
    }
    for text in
        ["root", "+1", "0x1", "1:", ":1", "1:2:3", "1,2", "1.0", "4294967295", "4294967296", "1:4294967295", "1:root"]
    {
        let error = error(&format!("exec --user={text} c sh"));
        assert_eq!(error.kind(), Kind::Usage, "{text}");
        assert!(error.to_string().contains("is no value for --user"), "{error}");
    }
}

#[test]
fn what_follows_the_id_of_ps_is_handed_on_unread() {
    for (line, id, rest, format) in [
        ("ps c", "c", &[][..], ListFormat::Table),
        ("ps c -ef", "c", &["-ef"][..], ListFormat::Table),
        ("ps -f json c", "c", &[], ListFormat::Json),
        ("ps --format json c -f --format json --help", "c", &["-f", "--format", "json", "--help"], ListFormat::Json),
        ("ps c -- -e -- -f", "c", &["-e", "--", "-f"], ListFormat::Table),
        ("ps --format=table c --log /l -v", "c", &["--log", "/l", "-v"], ListFormat::Table),
        ("ps -- c aux", "c", &["aux"], ListFormat::Table),
    ] {
        let (log, asked) = typed(line);
        let Ok(Asked::Request(request)) = asked else { panic!("{line}: {asked:?}") };
        let Action::Ps { id: found, format: form, options } = request.action else { panic!("{line}") };
        assert_eq!((found.as_str(), form, log.file), (id, format, None), "{line}");
        assert_eq!(options, rest, "{line}");
    }
    assert!(error("ps --format json").to_string().contains("missing"));
}

#[test]
fn the_log_is_known_even_when_the_rest_is_wrong() {
    for line in [
        "--log /l --log-format json create --bogus c",
        "--log=/l --log-format=json bogus",
        "--bogus --log /l --log-format json state c",
    ] {
        let (log, asked) = typed(line);
        assert!(asked.is_err());
        assert_eq!((log.file.as_deref(), log.json), (Some(std::path::Path::new("/l")), true), "{line}");
    }
}

#[test]
fn help_and_version_are_texts() {
    for line in ["--version", "-v", "--root /r --version"] {
        assert!(matches!(typed(line).1, Ok(Asked::Version)), "{line}");
    }
    let whole = text("--help");
    for words in VERBS {
        assert!(whole.contains(words.name), "{}", words.name);
        let help = text(&format!("{} --help", words.name));
        for opt in words.opts.iter().flat_map(|opts| opts.iter()) {
            assert!(help.contains(&format!("--{}", opt.long)), "{} --{}", words.name, opt.long);
        }
        assert_eq!(help, text(&format!("help {}", words.name)), "{}", words.name);
    }
    for opt in GLOBALS {
        assert!(whole.contains(&format!("--{}", opt.long)), "{}", opt.long);
    }
}

#[test]
fn no_option_means_two_things() {
    for words in VERBS {
        command(words).debug_assert();
    }
    base().subcommands(VERBS.iter().map(command)).debug_assert();
}

#[test]
fn an_ordinary_user_has_a_root_of_his_own() {
    let root = |runtime_dir: Option<&str>| {
        let caller = Caller { uid: 1000, runtime_dir: runtime_dir.map(OsString::from), ..Caller::default() };
        parse(words("state c"), &caller).1
    };
    let Ok(Asked::Request(request)) = root(Some("/run/user/1000")) else { panic!() };
    assert_eq!(request.root, std::path::Path::new("/run/user/1000/wharf"));
    let nested = Caller { nested: true, runtime_dir: Some(OsString::from("/run/user/1000")), ..Caller::default() };
    let Ok(Asked::Request(request)) = parse(words("state c"), &nested).1 else { panic!() };
    assert_eq!(request.root, std::path::Path::new("/run/user/1000/wharf"));
    assert!(root(None).unwrap_err().to_string().contains("XDG_RUNTIME_DIR is not set (give --root)"));
    assert_eq!(self::request("state c").root, std::path::Path::new("/run/wharf"));
}

#[test]
fn the_words_of_config_and_route_are_understood() {
    for line in [
        "config check",
        "config check /f",
        "config show --format json",
        "config import --map lxc=native,vm=runc /f",
        "route explain c",
        "route explain --bundle /b --argv0 wharf-vm --format json",
    ] {
        request(line);
    }
    for (line, message) in [
        ("config", "config: missing <action>"),
        ("config chek", "config: unknown action \"chek\" (check, show or import)"),
        ("config import", "config: import needs a file"),
        ("config import --map lxc /f", "config: --map \"lxc\" is no pair of names (as lxc=native)"),
        ("config check --map a=b", "config: --map is for import alone"),
        ("config show /f", "config: show tells what is in effect, and takes no file (give --config FILE)"),
        ("route explain", "route: explain needs a container id, --bundle, or both"),
        ("route explode c", "route: unknown action \"explode\" (explain)"),
    ] {
        assert_eq!(error(line).to_string(), message, "{line}");
    }
}
