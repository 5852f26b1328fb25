//! The exit codes of `run` and of the other verbs.

use harness::{Feature, ensure, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("exit_codes")
        .trial("run ends with the payload's own code", |host| {
            for code in [0, 1, 2, 42, 124, 125, 126, 127, 128, 137, 200, 255] {
                let ran = host.run(&host.bundle()?.payload(&["exit", &code.to_string()]))?;
                ensure_eq!(ran.code(), Some(code));
                ensure_eq!(ran.finished.stderr, "", "stderr of code {code}");
            }
            Ok(())
        })
        .trial("run ends with 128 + n for a payload that signal n ended", |host| {
            for (name, number) in [("KILL", 9), ("TERM", 15), ("ABRT", 6), ("FPE", 8), ("USR1", 10)] {
                // Process 1 is deaf to its own signals, so its child dies and it is not the one asked about.
                let bundle = host.bundle()?.without_namespace("pid").payload(&["kill-self", name]);
                ensure_eq!(host.run(&bundle)?.code(), Some(128 + number), "{name}");
            }
            Ok(())
        })
        .trial("signals to run reach the payload", |host| {
            let bundle = host.bundle()?.payload(&["wait-signal", ";", "exit", "5"]);
            bundle.save()?;
            let running = host.spawn(&["run", "--bundle", bundle.dir_text(), bundle.id()])?;
            for _ in 0..2000 {
                if running.stdout_so_far().contains("ready") {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(running.pid()), nix::sys::signal::Signal::SIGUSR2)?;
            let ran = running.finish()?;
            ensure!(ran.stdout.contains("SIGUSR2"), "{ran}");
            ensure_eq!(ran.code(), Some(5));
            Ok(())
        })
        .trial("run leaves no container behind, whatever the code", |host| {
            for words in [["exit", "0"], ["exit", "9"]] {
                let bundle = host.bundle()?.payload(&words);
                host.run(&bundle)?;
                ensure!(host.runtime.call(&["state", bundle.id()])?.code() != Some(0), "the container still exists");
            }
            Ok(())
        })
        .trial("run --detach returns at once and the container stays", |host| {
            let bundle = host.bundle()?.payload(&["sleep"]);
            bundle.save()?;
            host.runtime.must(&["run", "--detach", "--bundle", bundle.dir_text(), bundle.id()])?;
            let state: harness::Value = serde_json::from_str(&host.runtime.must(&["state", bundle.id()])?)?;
            ensure_eq!(state["status"], "running");
            host.runtime.must(&["delete", "--force", bundle.id()])?;
            Ok(())
        })
        .trial("run ends with 127 for a command that is missing and 126 for one that cannot be executed", |host| {
            host.except("runc", "ends with 1 or 255")?;
            let missing = host.run(&host.bundle()?.args(&["/bin/missing"]))?;
            ensure_eq!(missing.code(), Some(127), "{}", missing.finished);
            let missing = host.run(&host.bundle()?.args(&["missing"]))?;
            ensure_eq!(missing.code(), Some(127), "{}", missing.finished);
            let refused = host.run(&host.bundle()?.args(&["/etc/passwd"]))?;
            ensure_eq!(refused.code(), Some(126), "{}", refused.finished);
            Ok(())
        })
        .trial("run ends with 125 for a failure of its own", |host| {
            host.except("runc", "ends with 1")?;
            let ran = host.run(&host.bundle()?.set("/root/path", json!("missing")))?;
            ensure_eq!(ran.code(), Some(125), "{}", ran.finished);
            Ok(())
        })
        .trial("a wrong command line ends with 2", |host| {
            host.except("runc", "ends with 1 and often 0")?;
            for words in [
                vec!["sail"],
                vec!["create", "--no-such-option", "x"],
                vec!["state"],
                vec!["state", "a", "b"],
                vec!["kill", "x", "WINDY"],
            ] {
                let said = host.runtime.call(&words)?;
                ensure_eq!(said.code(), Some(2), "{said}");
                ensure!(!said.stderr.is_empty(), "{words:?}: not a word");
            }
            Ok(())
        })
        .trial("a verb that fails ends with 1", |host| {
            for words in [["state", "nobody"], ["start", "nobody"]] {
                ensure_eq!(host.runtime.call(&words)?.code(), Some(1));
            }
            Ok(())
        })
}
