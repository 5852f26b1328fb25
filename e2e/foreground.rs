//! `run` in the foreground of a payload with a terminal: ours stands for the payload's, and is as before on every way out.

use harness::{Bundle, Desk, Feature, Host, Stop, ensure, ensure_eq, json};
use nix::sys::signal::Signal;
use nix::sys::termios::LocalFlags;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::Stdio;

pub(crate) fn trials() -> Feature {
    Feature::new("foreground")
        .trial("output and exit code are the payload's", |host| {
            let mut desk = Desk::new(24, 80)?;
            let bundle = with_terminal(host, &["print", "ahoy\n", ";", "exit", "7"])?;
            let code = restored(&mut desk, |desk| desk.run(host, &bundle, |_| {})?.end(&mut desk.screen))?;
            ensure_eq!(code, 7);
            let seen = String::from_utf8_lossy(desk.screen.drain()?).into_owned();
            ensure_eq!(seen, "ahoy\r\n{\"did\":\"print\"}\r\n");
            Ok(())
        })
        .trial("a payload that is killed is 128 + n, and the terminal is as before", |host| {
            let mut desk = Desk::new(24, 80)?;
            let bundle = with_terminal(host, &["terminal", ";", "sleep"])?;
            let code = restored(&mut desk, |desk| {
                let run = desk.run(host, &bundle, |_| {})?;
                desk.screen.line()?;
                host.runtime.must(&["kill", bundle.id(), "KILL"])?;
                run.end(&mut desk.screen)
            })?;
            ensure_eq!(code, 137);
            Ok(())
        })
        .trial("our terminal is raw meanwhile, but for its output", |host| {
            let mut desk = Desk::new(24, 80)?;
            let bundle = with_terminal(host, &["read-line"])?;
            let before = desk.settings()?;
            let code = restored(&mut desk, |desk| {
                let run = desk.run(host, &bundle, |_| {})?;
                desk.screen.wait_for("ready")?;
                let during = desk.settings()?;
                let none = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN;
                ensure!(!during.local_flags.intersects(none), "{:?}", during.local_flags);
                ensure_eq!(during.output_flags, before.output_flags);
                desk.screen.write("\n")?;
                run.end(&mut desk.screen)
            })?;
            ensure_eq!(code, 0);
            Ok(())
        })
        .trial("keys are the payload's: ^C, ^Z, ^\\ and ^D are bytes to us", |host| {
            for (key, signal) in [("\x03", "SIGINT"), ("\x1a", "SIGTSTP"), ("\x1c", "SIGQUIT")] {
                let mut desk = Desk::new(24, 80)?;
                let bundle = with_terminal(host, &["wait-signal"])?;
                restored(&mut desk, |desk| {
                    let run = desk.run(host, &bundle, |_| {})?;
                    desk.screen.wait_for("ready")?;
                    desk.screen.write(key)?;
                    desk.screen.wait_for(signal)?;
                    run.end(&mut desk.screen)
                })?;
            }
            let mut desk = Desk::new(24, 80)?;
            let bundle = with_terminal(host, &["read-line"])?;
            let run = desk.run(host, &bundle, |_| {})?;
            desk.screen.wait_for("ready")?;
            desk.screen.write("\x04")?;
            desk.screen.wait_for("\"length\":0")?;
            ensure_eq!(run.end(&mut desk.screen)?, 0);
            Ok(())
        })
        .trial("the payload's terminal begins with our size and follows it", |host| {
            let mut desk = Desk::new(31, 97)?;
            let bundle = with_terminal(host, &["window", ";", "wait-window"])?;
            let run = desk.run(host, &bundle, |_| {})?;
            desk.screen.wait_for("[31,97]")?;
            desk.screen.wait_for("ready")?;
            desk.screen.resize(32, 98)?;
            desk.screen.wait_for("\"window\":[32,98]")?;
            ensure_eq!(run.end(&mut desk.screen)?, 0);
            Ok(())
        })
        .trial("where we have no size consoleSize stays", |host| {
            host.except("runc", "hands on a size of nothing")?;
            let mut desk = Desk::new(0, 0)?;
            let bundle =
                with_terminal(host, &["window"])?.set("/process/consoleSize", json!({ "height": 42, "width": 142 }));
            let run = desk.run(host, &bundle, |_| {})?;
            desk.screen.wait_for("[42,142]")?;
            ensure_eq!(run.end(&mut desk.screen)?, 0);
            Ok(())
        })
        .trial("ten megabytes are shown whole", |host| {
            let mut desk = Desk::new(24, 80)?;
            let bundle = with_terminal(host, &["flood", "10"])?;
            let run = desk.run(host, &bundle, |_| {})?;
            ensure_eq!(run.end(&mut desk.screen)?, 0);
            let expected: String = (0..10 << 14).map(|line| format!("{line:063}\r\n")).collect();
            let seen = String::from_utf8_lossy(desk.screen.drain()?).into_owned();
            let (seen, rest) = seen.split_at(expected.len().min(seen.len()));
            ensure!(seen == expected, "{} bytes came, {} were expected", seen.len(), expected.len());
            ensure_eq!(rest, "{\"flooded\":10}\r\n");
            Ok(())
        })
        .trial("output to a file is whole and has no carriage returns", |host| {
            let mut desk = Desk::new(24, 80)?;
            let bundle = with_terminal(host, &["flood", "4", ";", "print", "hi\n"])?;
            let path = host.dir().join("out");
            let file = File::create(&path)?;
            let code = restored(&mut desk, |desk| {
                desk.run(host, &bundle, |command| {
                    command.stdout(file);
                })?
                .end(&mut desk.screen)
            })?;
            ensure_eq!(code, 0);
            let expected: String = (0..4 << 14).map(|line| format!("{line:063}\n")).collect();
            let seen = fs::read_to_string(path)?;
            let (seen, rest) = seen.split_at(expected.len().min(seen.len()));
            ensure!(seen == expected, "{} bytes came, {} were expected", seen.len(), expected.len());
            ensure_eq!(rest, "{\"flooded\":4}\nhi\n{\"did\":\"print\"}\n");
            Ok(())
        })
        .trial("output to a slow pipe is whole", |host| {
            let mut desk = Desk::new(24, 80)?;
            let bundle = with_terminal(host, &["flood", "1"])?;
            let (mut reader, writer) = std::io::pipe()?;
            let run = desk.run(host, &bundle, |command| {
                command.stdout(writer);
            })?;
            let mut seen = Vec::new();
            let mut part = [0; 30_000];
            loop {
                std::thread::sleep(std::time::Duration::from_millis(2));
                match reader.read(&mut part)? {
                    0 => break,
                    length => seen.extend_from_slice(&part[..length]),
                }
            }
            ensure_eq!(run.end(&mut desk.screen)?, 0);
            ensure_eq!(seen.len(), (1 << 20) + "{\"flooded\":1}\n".len());
            Ok(())
        })
        .trial("a long paste arrives whole, while its echo is shown", |host| {
            const LINES: usize = 3000;
            let mut desk = Desk::new(24, 80)?;
            let bundle = with_terminal(host, &["read-lines", &LINES.to_string()])?;
            let run = desk.run(host, &bundle, |_| {})?;
            desk.screen.wait_for("ready")?;
            for line in 0..LINES {
                desk.screen.write(&format!("{line:063}\n"))?;
                if line % 16 == 0 {
                    desk.screen.glance()?;
                }
            }
            desk.screen.wait_for(&format!("{{\"length\":{},\"right\":true}}", LINES * 64))?;
            ensure_eq!(run.end(&mut desk.screen)?, 0);
            Ok(())
        })
        .trial("input from a pipe arrives, and its end is not the payload's", |host| {
            let mut desk = Desk::new(24, 80)?;
            let bundle = with_terminal(host, &["read-line", ";", "sleep", "100", ";", "terminal"])?;
            let (reader, mut writer) = std::io::pipe()?;
            // The terminal is found by stderr and stdout, and is no longer the controlling one.
            let run = seat_without_stdin(&desk, host, &bundle, reader.into())?;
            writer.write_all(b"piped\n")?;
            drop(writer);
            desk.screen.wait_for("\"line\":\"piped\\n\"")?;
            desk.screen.wait_for("\"names\"")?;
            ensure_eq!(run.end(&mut desk.screen)?, 0);
            Ok(())
        })
        .trial("without input the payload waits", |host| {
            let mut desk = Desk::new(24, 80)?;
            let bundle = with_terminal(host, &["terminal", ";", "sleep", "50"])?;
            let code = restored(&mut desk, |desk| {
                let run = seat_without_stdin(desk, host, &bundle, Stdio::null())?;
                desk.screen.wait_for("\"names\"")?;
                run.end(&mut desk.screen)
            })?;
            ensure_eq!(code, 0);
            Ok(())
        })
        .trial("signals to us are the payload's", |host| {
            host.except("runc", "ends with SIGINT and leaves the container")?;
            for (signal, name) in
                [(Signal::SIGTERM, "SIGTERM"), (Signal::SIGINT, "SIGINT"), (Signal::SIGUSR1, "SIGUSR1")]
            {
                let mut desk = Desk::new(24, 80)?;
                let bundle = with_terminal(host, &["wait-signal", ";", "exit", "9"])?;
                let code = restored(&mut desk, |desk| {
                    let run = desk.run(host, &bundle, |_| {})?;
                    desk.screen.wait_for("ready")?;
                    run.signal(signal)?;
                    desk.screen.wait_for(name)?;
                    run.end(&mut desk.screen)
                })?;
                ensure_eq!(code, 9);
            }
            Ok(())
        })
        .trial("SIGTSTP stops us with the terminal as before, and SIGCONT goes on", |host| {
            host.only_wharf("runc passes it on")?;
            let mut desk = Desk::new(24, 80)?;
            let bundle = with_terminal(host, &["read-line"])?;
            let before = desk.settings()?;
            let code = restored(&mut desk, |desk| {
                let run = desk.run(host, &bundle, |_| {})?;
                desk.screen.wait_for("ready")?;
                run.signal(Signal::SIGTSTP)?;
                run.wait_stopped(true)?;
                ensure!(desk.settings()? == before, "the terminal is raw while we are stopped");
                run.signal(Signal::SIGCONT)?;
                run.wait_stopped(false)?;
                desk.screen.write("on\n")?;
                desk.screen.wait_for("\"line\":\"on\\n\"")?;
                run.end(&mut desk.screen)
            })?;
            ensure_eq!(code, 0);
            Ok(())
        })
        .trial("when our terminal goes away the payload gets SIGHUP, and nothing stays", |host| {
            let mut desk = Desk::new(24, 80)?;
            let bundle = with_terminal(host, &["terminal", ";", "wait-signal"])?;
            let run = desk.run(host, &bundle, |_| {})?;
            desk.screen.wait_for("ready")?;
            desk.leave();
            run.end_alone().map(drop)
        })
        .trial("when nobody reads our output any more the payload is not kept waiting", |host| {
            host.only_wharf("runc lets it go on")?;
            let mut desk = Desk::new(24, 80)?;
            let bundle = with_terminal(host, &["flood", "1", ";", "exit", "5"])?;
            let (mut reader, writer) = std::io::pipe()?;
            let code = restored(&mut desk, |desk| {
                let run = desk.run(host, &bundle, |command| {
                    command.stdout(writer);
                })?;
                reader.read_exact(&mut [0; 1000])?;
                drop(reader);
                run.end(&mut desk.screen)
            })?;
            // Its flood fails: its terminal is hung up.
            ensure_eq!(code, 5);
            Ok(())
        })
        .trial("a payload that lets go of its terminal may come back to it", |host| {
            host.only_wharf("runc has left by then")?;
            let mut desk = Desk::new(24, 80)?;
            let bundle = with_terminal(host, &["print", "before\n", ";", "console-later", "300"])?;
            let run = desk.run(host, &bundle, |_| {})?;
            desk.screen.wait_for("before")?;
            run.end(&mut desk.screen)?;
            desk.screen.wait_for("here again")
        })
        .trial("a hook after start may say much, and one that fails leaves the terminal as before", |host| {
            host.only_wharf("runc keeps what hooks say to itself")?;
            let mut desk = Desk::new(24, 80)?;
            let talk = json!({ "path": "/bin/payload", "args": ["payload", "flood", "1"] });
            let fail = json!({ "path": "/bin/payload", "args": ["payload", "exit", "3"] });
            let bundle = with_terminal(host, &["print", "begun\n"])?.set("/hooks/startContainer", json!([talk]));
            let code = restored(&mut desk, |desk| desk.run(host, &bundle, |_| {})?.end(&mut desk.screen))?;
            ensure_eq!(code, 0);
            desk.screen.wait_for("begun")?;
            let mut desk = Desk::new(24, 80)?;
            let bundle = with_terminal(host, &["print", "begun\n"])?.set("/hooks/startContainer", json!([fail]));
            let code = restored(&mut desk, |desk| desk.run(host, &bundle, |_| {})?.end(&mut desk.screen))?;
            ensure_eq!(code, 125);
            desk.screen.wait_for("it exited with 3 [hooks/startContainer/0]")
        })
        .trial("a command that is missing is 127, and the terminal is as before", |host| {
            host.only_wharf("runc has one code for all")?;
            let mut desk = Desk::new(24, 80)?;
            let bundle = with_terminal(host, &[])?.args(&["/bin/missing"]);
            let code = restored(&mut desk, |desk| desk.run(host, &bundle, |_| {})?.end(&mut desk.screen))?;
            ensure_eq!(code, 127);
            Ok(())
        })
        .trial("without any terminal of ours it is refused", |host| {
            let bundle = with_terminal(host, &["terminal"])?;
            bundle.save()?;
            let mut command = std::process::Command::new("setsid");
            command.arg("--wait").arg(host.runtime.program()).arg("--root").arg(host.root()).stdin(Stdio::null());
            command.args(["run", "--bundle", bundle.dir_text(), bundle.id()]);
            let finished = host.runtime.spawn_command(command)?.finish()?;
            ensure!(finished.code() != Some(0), "{finished}");
            host.only_wharf("runc words it differently")?;
            ensure!(finished.last_line().contains("find our own terminal"), "{finished}");
            ensure!(finished.last_line().contains("[process/terminal]"), "{finished}");
            Ok(())
        })
        .trial("what spec writes runs in a terminal", |host| {
            let bundle = host.bundle()?;
            let rootfs = bundle.rootfs();
            fs::remove_file(bundle.dir().join("config.json")).ok();
            host.runtime.must(&["spec", "--bundle", bundle.dir_text()])?;
            let config = bundle.dir().join("config.json");
            let mut spec: harness::Value = serde_json::from_slice(&fs::read(&config)?)?;
            ensure_eq!(spec["process"]["terminal"], true);
            // Only the command is changed: there is no shell in this root file system.
            spec["process"]["args"] = json!(["/bin/payload", "terminal"]);
            fs::write(&config, serde_json::to_vec(&spec)?)?;
            ensure!(rootfs.join("bin/payload").exists(), "no payload");
            let mut desk = Desk::new(24, 80)?;
            let run = desk.call(host, &["run", "--bundle", bundle.dir_text(), bundle.id()], |_| {})?;
            ensure_eq!(desk.screen.line()?["controlling"], true);
            ensure_eq!(run.end(&mut desk.screen)?, 0);
            Ok(())
        })
}

fn with_terminal(host: &Host, words: &[&str]) -> Result<Bundle, Stop> {
    Ok(host.bundle()?.payload(words).set("/process/terminal", json!(true)))
}

/// What `work` gives; our terminal must then be as it was.
fn restored<T>(desk: &mut Desk, work: impl FnOnce(&mut Desk) -> Result<T, Stop>) -> Result<T, Stop> {
    let before = desk.settings()?;
    let result = work(desk)?;
    let after = desk.settings()?;
    ensure!(after == before, "the terminal is not as before: {before:?}, {after:?}");
    Ok(result)
}

/// `setsid --ctty` wants the terminal as its stdin; without that there is none that controls us.
fn seat_without_stdin(desk: &Desk, host: &Host, bundle: &Bundle, stdin: Stdio) -> Result<harness::Seated, Stop> {
    bundle.save()?;
    desk.call_plainly(host, &["run", "--bundle", bundle.dir_text(), bundle.id()], |command| {
        command.stdin(stdin);
    })
}
