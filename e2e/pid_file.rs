//! --pid-file.

use harness::{Container, Feature, ensure, ensure_eq};

pub(crate) fn trials() -> Feature {
    Feature::new("pid_file")
        .trial("it holds the pid that state tells, in digits alone", |host| {
            let file = host.dir().join("pid");
            let bundle = host.bundle()?.payload(&["sleep"]);
            let container = Container::create(host, &bundle, &["--pid-file", file.to_str().unwrap_or_default()])?;
            ensure_eq!(std::fs::read_to_string(&file)?, container.pid()?.to_string());
            container.delete_force()
        })
        .trial("run writes it too, before the payload begins", |host| {
            let file = host.dir().join("pid");
            let bundle = host.bundle()?.payload(&["report", ";", "wait-file", "/tmp/go"]);
            bundle.save()?;
            let run =
                ["run", "--pid-file", file.to_str().unwrap_or_default(), "--bundle", bundle.dir_text(), bundle.id()];
            let running = host.spawn(&run)?;
            for _ in 0..2000 {
                if running.stdout_so_far().contains('\n') {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            let pid = std::fs::read_to_string(&file)?;
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
            ensure!(line.starts_with("/bin/payload"), "process {pid} is {line:?}");
            std::fs::write(bundle.rootfs().join("tmp/go"), "")?;
            ensure_eq!(running.finish()?.code(), Some(0));
            Ok(())
        })
        .trial("a file that is there is replaced whole", |host| {
            let file = host.dir().join("pid");
            std::fs::write(&file, "99999999999 old and long")?;
            let bundle = host.bundle()?.payload(&["sleep"]);
            let container = Container::create(host, &bundle, &["--pid-file", file.to_str().unwrap_or_default()])?;
            ensure_eq!(std::fs::read_to_string(&file)?, container.pid()?.to_string());
            container.delete_force()
        })
        .trial("a pid file that cannot be written undoes the create", |host| {
            let bundle = host.bundle()?.payload(&["sleep"]);
            bundle.save()?;
            let said = host.runtime.call(&[
                "create",
                "--pid-file",
                "/not/there/pid",
                "--bundle",
                bundle.dir_text(),
                bundle.id(),
            ])?;
            ensure!(said.code() != Some(0) && said.stderr.contains("/not/there"), "{said}");
            ensure!(host.runtime.call(&["state", bundle.id()])?.code() != Some(0), "the container exists");
            Ok(())
        })
        .trial("a create that fails writes none", |host| {
            let file = host.dir().join("pid");
            let bundle = host.bundle()?.mount("/var/x", "seafs", "seafs", &[]);
            bundle.save()?;
            let create =
                ["create", "--pid-file", file.to_str().unwrap_or_default(), "--bundle", bundle.dir_text(), bundle.id()];
            ensure!(host.runtime.call(&create)?.code() != Some(0), "it was created");
            ensure!(!file.exists(), "the pid file is there");
            Ok(())
        })
}
