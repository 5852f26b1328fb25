//! What stands in the way of a checkpoint or of bringing it back: refused by name, and nothing is lost.

use crate::checkpoint::{Criu, counted, goes_on, text};
use crate::rootless;
use harness::{Feature, Host, Outcome, Stop, ensure, ensure_eq, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use wharf_core::Manifest;

pub(crate) fn trials() -> Feature {
    Feature::new("checkpoint_refused")
        .trial("images of a newer kernel, another processor or another architecture: what differs is named", elsewhere)
        .trial("a name that is taken: what is there stays, and can be restored", taken)
        .trial("no room for the images: it runs on, and nothing is left of them", no_room)
        .trial("an ordinary user is told that it takes root", ordinary)
}

fn elsewhere(host: &Host) -> Outcome {
    let criu = Criu::new(host)?;
    let bundle = host.bundle()?.payload(&["count", "/tmp/count"]);
    let container = criu.start(&bundle)?;
    goes_on(&bundle)?;
    let images = host.new_dir("images")?;
    criu.checkpoint(&container, &images, &[])?;
    let file = images.join("manifest.json");
    let own = fs::read(&file)?;
    let manifest = || Manifest::parse(&own, "manifest").map_err(|error| Stop::failed(error.to_string()));
    let refused = |manifest: &Manifest, expected: &str| -> Outcome {
        fs::write(&file, manifest.to_bytes().map_err(|error| Stop::failed(error.to_string()))?)?;
        let words = ["-d", "--bundle", bundle.dir_text(), "--image-path", text(&images), bundle.id()];
        let said = criu.call("restore", &words)?;
        ensure!(said.code() == Some(1) && said.stderr.contains(expected), "{expected:?} was expected: {said}");
        ensure_eq!(host.runtime.call(&["state", bundle.id()])?.code(), Some(1), "a refused container");
        Ok(())
    };
    let mut newer = manifest()?;
    newer.host.kernel = "99.1.0".into();
    refused(&newer, "it was made on kernel 99.1.0, this one, ")?;
    let mut other = manifest()?;
    other.host.cpu.extend(["amx_of_tomorrow".to_owned(), "avx1024f".to_owned()]);
    refused(&other, "this processor lacks amx_of_tomorrow avx1024f")?;
    let mut foreign = manifest()?;
    foreign.host.architecture = "riscv64".into();
    refused(&foreign, &format!("it was made on riscv64, this is {}", std::env::consts::ARCH))?;
    fs::write(&file, &own)?;
    criu.restore(&bundle, &images, &[])?;
    goes_on(&bundle)?;
    host.runtime.must(&["delete", "--force", bundle.id()]).map(drop)
}

fn taken(host: &Host) -> Outcome {
    let criu = Criu::new(host)?;
    let bundle = host.bundle()?.payload(&["count", "/tmp/count"]);
    let configuration = host.dir().join("configuration");
    fs::write(&configuration, json!({"storage": {"checkpoints": host.new_dir("home")?}}).to_string())?;
    let call = |words: &[&str]| {
        let words = criu.words(&[&["--config", text(&configuration)], words].concat());
        criu.quietly(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let container = criu.start(&bundle)?;
    goes_on(&bundle)?;
    let make = ["checkpoint", "--name", "a", "--disk", "none", "--leave-running", bundle.id()];
    call(&make)?;
    let last = counted(&bundle)?;
    let again = format!("{:?}", call(&make));
    ensure!(again.contains("/a: it exists") && again.contains("choose another name"), "{again}");
    goes_on(&bundle)?;
    container.delete_force()?;
    call(&["restore", "-d", "--name", "a", bundle.id()])?;
    ensure!(goes_on(&bundle)? + 5000 > last, "it does not go on from where it was");
    host.runtime.must(&["delete", "--force", bundle.id()]).map(drop)
}

fn no_room(host: &Host) -> Outcome {
    let criu = Criu::new(host)?;
    let bundle = host.bundle()?.payload(&["count", "/tmp/count"]);
    let container = criu.start(&bundle)?;
    goes_on(&bundle)?;
    let images = host.new_dir("images")?;
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs", text(&images)]).output()?;
    ensure!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
    let judged = (|| {
        let inner = images.join("c");
        let said = criu.call("checkpoint", &["--image-path", text(&inner), container.id()])?;
        ensure!(said.code() == Some(1) && said.stderr.contains("No space left on device"), "{said}");
        let left: Vec<String> = fs::read_dir(&inner)
            .map(|dir| dir.flatten().map(|one| one.file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        ensure!(left.iter().all(|name| name == "dump.log"), "{left:?} is left");
        ensure_eq!(container.status()?, "running");
        goes_on(&bundle)
    })();
    Command::new("umount").arg(&images).output()?;
    judged?;
    container.delete_force()
}

fn ordinary(host: &Host) -> Outcome {
    let criu = Criu::new(host)?;
    let user = rootless::user(host)?;
    let bundle = rootless::bundle(&user)?.payload(&["sleep"]);
    let container = user.start(&bundle)?;
    let images = user.new_dir("images")?;
    fs::set_permissions(&images, fs::Permissions::from_mode(0o777))?;
    let words = criu.words(&["checkpoint", "--image-path", text(&images), container.id()]);
    let said = user.runtime.call(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
    ensure!(said.code() == Some(1) && said.stderr.contains("only for root"), "{said}");
    ensure_eq!(container.status()?, "running");
    ensure_eq!(fs::read_dir(&images)?.count(), 0, "what is left");
    container.delete_force()
}
