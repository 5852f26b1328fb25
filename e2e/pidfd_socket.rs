//! --pidfd-socket: the caller gets a pidfd of the container's first process.

use harness::{Container, Feature, Host, Outcome, Received, Receiver, Stop, ensure, ensure_eq};
use std::os::fd::AsRawFd;

const RUNC: &str = "before 1.2 it has no such option";

pub(crate) fn trials() -> Feature {
    Feature::new("pidfd_socket")
        .trial("create sends a pidfd of the first process, and says that it is one", |host| {
            host.except("runc", RUNC)?;
            let path = host.dir().join("pidfd.sock");
            let receiver = Receiver::listen(&path)?;
            let bundle = host.bundle()?.payload(&["sleep"]);
            let container = Container::create(host, &bundle, &["--pidfd-socket", &path.to_string_lossy()])?;
            let received = receiver.receive()?.0;
            ensure_eq!(received.words, "standard");
            ensure_eq!(process_of(&received)?, container.pid()?);
            ensure!(!receiver.is_called(), "it connected twice");
            container.delete_force()
        })
        .trial("run sends it while the payload runs", |host| {
            host.except("runc", RUNC)?;
            let path = host.dir().join("pidfd.sock");
            let receiver = Receiver::listen(&path)?;
            let bundle = host.bundle()?.payload(&["report", ";", "wait-file", "/tmp/go"]);
            bundle.save()?;
            let socket = path.to_string_lossy();
            let running =
                host.spawn(&["run", "--pidfd-socket", &socket, "--bundle", bundle.dir_text(), bundle.id()])?;
            let received = receiver.receive()?.0;
            let pid = process_of(&received)?;
            for _ in 0..2000 {
                if running.stdout_so_far().contains('\n') {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
            ensure!(line.starts_with("/bin/payload"), "process {pid} is {line:?}");
            std::fs::write(bundle.rootfs().join("tmp/go"), "")?;
            ensure_eq!(running.finish()?.code(), Some(0));
            let descriptor = received.descriptor.ok_or_else(|| Stop::failed("no descriptor"))?;
            ensure!(wharf_sys::process::readable(&descriptor, 1000)?, "the pidfd does not tell the end");
            Ok(())
        })
        .trial("exec sends one of the process that joins", |host| {
            host.except("runc", RUNC)?;
            let path = host.dir().join("pidfd.sock");
            let receiver = Receiver::listen(&path)?;
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let file = host.dir().join("pid");
            let (socket, file_text) = (path.to_string_lossy(), file.to_string_lossy());
            let options = ["--pidfd-socket", &socket, "--pid-file", &file_text, "--detach"];
            let ran = container.exec(&options, &["/bin/payload", "nothing"])?.finished;
            ensure_eq!(ran.code(), Some(0), "{ran}");
            let received = receiver.receive()?.0;
            ensure_eq!(received.words, "setns");
            // It may have ended, and is known until we reap it.
            let pid = process_of(&received)?;
            ensure_eq!(pid.to_string(), std::fs::read_to_string(&file)?);
            ensure_eq!(container.reap(pid)?, 0);
            container.delete_force()
        })
        .trial("a path longer than a socket's name is reached too", |host| {
            host.only_wharf("other runtimes do not")?;
            let directory = host.dir().join("d".repeat(120));
            std::fs::create_dir(&directory)?;
            let short = host.dir().join("p.sock");
            let receiver = Receiver::listen(&short)?;
            std::fs::rename(&short, directory.join("p.sock"))?;
            let bundle = host.bundle()?.payload(&["sleep"]);
            let socket = directory.join("p.sock");
            let container = Container::create(host, &bundle, &["--pidfd-socket", &socket.to_string_lossy()])?;
            ensure_eq!(process_of(&receiver.receive()?.0)?, container.pid()?);
            container.delete_force()
        })
        .trial("a socket that is not there or that nobody listens on fails the create", |host| {
            host.except("runc", RUNC)?;
            let deaf = host.dir().join("deaf.sock");
            drop(Receiver::listen(&deaf)?);
            fails(host, "/not/there.sock", "No such file or directory")?;
            fails(host, &deaf.to_string_lossy(), "Connection refused")
        })
}

fn fails(host: &Host, socket: &str, why: &str) -> Outcome {
    let bundle = host.bundle()?.payload(&["sleep"]);
    bundle.save()?;
    let said = host.runtime.call(&["create", "--pidfd-socket", socket, "--bundle", bundle.dir_text(), bundle.id()])?;
    ensure!(said.code() == Some(1) && said.stderr.contains(socket), "{said}");
    let stderr = said.stderr.to_lowercase();
    ensure!(stderr.contains(&why.to_lowercase()), "{said}");
    ensure!(host.runtime.call(&["state", bundle.id()])?.code() != Some(0), "the container exists");
    Ok(())
}

/// The process behind a pidfd, as the kernel tells it (pidfd_open(2), fdinfo).
fn process_of(received: &Received) -> Result<i32, Stop> {
    let Some(descriptor) = &received.descriptor else { return Err(Stop::failed(format!("{received:?}"))) };
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    pid.ok_or_else(|| Stop::failed(format!("not a pidfd: {info:?}")))
}
