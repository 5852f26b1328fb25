//! `exec` of a process with a terminal: with `--console-socket`, and in the foreground of ours.

use harness::{ConsoleSocket, Container, Desk, Feature, Host, Report, Stop, ensure, ensure_eq, json};
use std::fs;

pub(crate) fn trials() -> Feature {
    Feature::new("exec_terminal")
        .trial("with --console-socket it is made in the container's devpts and is the process's session's", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let [report, second] = detached(host, &container, &["--tty"], &["terminal", ";", "report"])?;
            ensure_eq!(report["names"], json!(["/dev/pts/0", "/dev/pts/0", "/dev/pts/0"]));
            for what in ["controlling", "leads", "foreground"] {
                ensure_eq!(report[what], true, "{what}");
            }
            let open: Vec<_> = second["fds"].as_object().into_iter().flatten().map(|(fd, _)| fd.as_str()).collect();
            ensure_eq!(open, ["0", "1", "2"]);
            Ok(())
        })
        .trial("/dev/console stays the container's own terminal", |host| {
            let bundle = host.bundle()?.payload(&["terminal", ";", "sleep"]).set("/process/terminal", json!(true));
            let socket = ConsoleSocket::new(host)?;
            let container = Container::create(host, &bundle, &["--console-socket", socket.path()])?;
            let mut own = socket.receive()?;
            container.start()?;
            let first = own.line()?;
            let [report] = detached(host, &container, &["--tty"], &["terminal"])?;
            ensure_eq!(report["names"][0], "/dev/pts/1");
            ensure!(report["device"] != first["device"], "{}", report["device"]);
            ensure_eq!(report["console"], first["device"]);
            Ok(())
        })
        .trial("it belongs to the process's user", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let [report] = detached(host, &container, &["--tty", "--user", "1000:1000"], &["terminal"])?;
            ensure_eq!((&report["uid"], &report["gid"], &report["mode"]), (&json!(1000), &json!(5), &json!("620")));
            Ok(())
        })
        .trial("with a user namespace as well", |host| {
            let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
            let bundle = host.bundle()?.payload(&["sleep"]).namespace("user", None);
            let bundle = bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
            let container = host.start(&bundle)?;
            let [report] = detached(host, &container, &["--tty"], &["terminal"])?;
            ensure_eq!((&report["uid"], &report["controlling"]), (&json!(0), &json!(true)));
            Ok(())
        })
        .trial("a process object asks for it with its size, and the exit code is the caller's to collect", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let process = host.dir().join("process.json");
            let object = json!({
                "terminal": true,
                "consoleSize": { "height": 12, "width": 34 },
                "user": { "uid": 0, "gid": 0 },
                "args": ["/bin/payload", "window", ";", "exit", "6"],
                "cwd": "/",
            });
            fs::write(&process, object.to_string())?;
            let socket = ConsoleSocket::new(host)?;
            let pid_file = host.dir().join("exec.pid");
            host.runtime.must(&[
                "exec",
                "--detach",
                "--console-socket",
                socket.path(),
                "--pid-file",
                pid_file.to_str().unwrap_or_default(),
                "--process",
                process.to_str().unwrap_or_default(),
                container.id(),
            ])?;
            let mut screen = socket.receive()?;
            ensure_eq!(String::from_utf8_lossy(screen.to_end()?), "[12,34]\r\n");
            let pid: i32 = fs::read_to_string(pid_file)?.trim().parse()?;
            ensure_eq!(container.reap(pid)?, 6);
            Ok(())
        })
        .trial("in the foreground ours stands for it", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let mut desk = Desk::new(31, 97)?;
            let before = desk.settings()?;
            let words =
                ["exec", "--tty", container.id(), "/bin/payload", "window", ";", "wait-signal", ";", "exit", "8"];
            let exec = desk.call(host, &words, |_| {})?;
            desk.screen.wait_for("[31,97]")?;
            desk.screen.wait_for("ready")?;
            desk.screen.write("\x03")?;
            desk.screen.wait_for("SIGINT")?;
            ensure_eq!(exec.end(&mut desk.screen)?, 8);
            ensure!(desk.settings()? == before, "our terminal is not as before");
            Ok(())
        })
        .trial("much output in the foreground is whole", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let mut desk = Desk::new(24, 80)?;
            let exec = desk.call(host, &["exec", "-t", container.id(), "/bin/payload", "flood", "2"], |_| {})?;
            ensure_eq!(exec.end(&mut desk.screen)?, 0);
            let seen = desk.screen.drain()?.len();
            ensure_eq!(seen, (2 << 14) * 65 + "{\"flooded\":2}\r\n".len());
            Ok(())
        })
        .trial("a container that ends takes the process along, and our terminal is as before", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let mut desk = Desk::new(24, 80)?;
            let before = desk.settings()?;
            let exec =
                desk.call(host, &["exec", "-t", container.id(), "/bin/payload", "terminal", ";", "sleep"], |_| {})?;
            desk.screen.wait_for("names")?;
            container.delete_force()?;
            ensure_eq!(exec.end(&mut desk.screen)?, 137);
            ensure!(desk.settings()? == before, "our terminal is not as before");
            Ok(())
        })
        .trial("a command that is missing leaves our terminal as before", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let mut desk = Desk::new(24, 80)?;
            let before = desk.settings()?;
            let exec = desk.call(host, &["exec", "-t", container.id(), "/bin/missing"], |_| {})?;
            ensure!(exec.end(&mut desk.screen)? != 0, "it succeeded");
            desk.screen.wait_for("/bin/missing")?;
            ensure!(desk.settings()? == before, "our terminal is not as before");
            Ok(())
        })
        .trial("a terminal without its other end, and a socket without a terminal, are refused", |host| {
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let socket = ConsoleSocket::new(host)?;
            let with = ["--console-socket", socket.path()];
            let cases: [(&[&str], &str); 3] = [
                (&["--tty", "--detach"], "nobody would have its other end [process/terminal]"),
                (&["--detach", with[0], with[1]], "the process has no terminal [process/terminal]"),
                (&["--tty", with[0], with[1]], "is in the foreground [process/terminal]"),
            ];
            for (options, words) in cases {
                let call = [&["exec"], options, &[container.id(), "/bin/payload", "nothing"]].concat();
                let finished = host.runtime.call(&call)?;
                ensure!(finished.code() != Some(0), "{options:?} was not refused");
                if host.runtime.name() == "wharf" {
                    ensure!(finished.last_line().contains(words), "{words:?} is not in {finished}");
                }
            }
            ensure!(socket.received()?.is_none(), "a terminal was sent");
            Ok(())
        })
        .trial("in a container without a devpts it is refused", |host| {
            let bundle = host.bundle()?.payload(&["sleep"]).edit(|config| {
                let mounts = config["mounts"].as_array_mut().expect("mounts");
                mounts.retain(|mount| mount["destination"] != "/dev/pts");
            });
            let container = host.start(&bundle)?;
            let socket = ConsoleSocket::new(host)?;
            let words = ["exec", "--tty", "--detach", "--console-socket", socket.path()];
            let finished = host.runtime.call(&[&words[..], &[container.id(), "/bin/payload", "nothing"]].concat())?;
            ensure!(finished.code() != Some(0), "it was not refused");
            host.only_wharf("runc words it differently")?;
            ensure!(finished.last_line().contains("there is no devpts on /dev/pts [process/terminal]"), "{finished}");
            Ok(())
        })
}

/// A process that says one line after the other and ends; it is collected, or its zombie would keep the container's pid
/// namespace from ending.
pub(crate) fn detached<const N: usize>(
    host: &Host,
    container: &Container<'_>,
    options: &[&str],
    words: &[&str],
) -> Result<[Report; N], Stop> {
    let socket = ConsoleSocket::new(host)?;
    let pid_file = host.dir().join(host.unique("pid"));
    let to = ["--console-socket", socket.path(), "--pid-file", pid_file.to_str().unwrap_or_default()];
    let command = [container.id(), "/bin/payload"];
    host.runtime.must(&[&["exec", "--detach"], &to[..], options, &command, words].concat())?;
    let mut screen = socket.receive()?;
    let lines: Result<Vec<Report>, Stop> = (0..N).map(|_| screen.line()).collect();
    container.reap(fs::read_to_string(pid_file)?.trim().parse()?)?;
    lines?.try_into().map_err(|_| Stop::failed("another number of lines"))
}
