//! What lies below containers: storages, templates, image archives, volumes, snapshots.

use super::{create, expect, rootfs};
use crate::disk::pool::Pool;
use harness::{Host, Node, Outcome, Stop, ensure, ensure_eq};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// §4.1, §4.3, §4.6, §7.
pub(super) fn storages(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let (id, template) = (node.next_id(host)?, node.template()?);
    let create = |template: &str, more: &[&str]| {
        let mut words = vec!["create", &id, template, "--ostype", "unmanaged", "--arch", "amd64"];
        words.extend(more);
        node.call(host, "pct", &words)
    };
    let local = "storage 'local' does not support container directories\n";
    expect(&create(&template, &[])?, 255, "", local)?;
    expect(&create(&template, &["--rootfs", "none:1"])?, 255, "", "storage 'none' does not exist\n")?;
    let on = ["--rootfs", "data:0"];
    let said = |why: &str| format!("unable to create CT {id} - {why}\n");
    expect(&create("data:vztmpl/none.tar", &on)?, 255, "", &said("volume 'data:vztmpl/none.tar' does not exist"))?;
    expect(&create("/none.tar", &on)?, 255, "", &said("can't find file '/none.tar'"))?;
    let odd = said("file does not look like a template archive: /none.tgz");
    expect(&create("/none.tgz", &on)?, 255, "", &odd)?;
    let volume = format!("data:{id}/subvol-{id}-disk-7.subvol");
    let none = said(&format!("volume '{volume}' does not exist"));
    expect(&create(&template, &["--rootfs", &volume])?, 255, "", &none)?;
    ensure_eq!(create(&template, &on)?.code(), Some(0));
    let config = node.must(host, "pct", &["config", &id])?;
    ensure!(config.contains(&format!("rootfs: data:{id}/subvol-{id}-disk-0.subvol,size=0T\n")), "{config}");
    ensure!(config.contains("unprivileged: 1\n"), "{config}");
    let status = node.must(host, "pvesm", &["status"])?;
    let header = "Name         Type     Status     Total (KiB)      Used (KiB) Available (KiB)        %\n";
    ensure!(status.starts_with(header), "{status}");
    let twice = node.call(host, "pvesm", &["add", "dir", "data", "--path", "/nowhere"])?;
    expect(&twice, 255, "", "create storage failed: storage ID 'data' already defined\n")?;
    let said = "storage 'none' does not exist\n";
    expect(&node.call(host, "pvesm", &["list", "none"])?, 255, "", said)?;
    let made = node.must(host, "pvesm", &["alloc", "data", &id, "", "0", "--format", "subvol"])?;
    let volume = format!("data:{id}/subvol-{id}-disk-1.subvol");
    ensure_eq!(made, format!("successfully created '{volume}'\n"));
    expect(&node.call(host, "pvesm", &["free", &volume])?, 0, &format!("Removed volume '{volume}'\n"), "")?;
    let listed = node.must(host, "pveam", &["list", "data"])?;
    ensure!(
        listed.starts_with(&format!("{:<60} SIZE  \n", "NAME")) && listed.contains("data:vztmpl/empty.tar"),
        "{listed}"
    );
    Ok(())
}

/// §0.4, §0.5, §4.5.
pub(super) fn image(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let archive = |name: &str, dotted: bool| -> Result<String, Stop> {
        let dir = host.new_dir("image")?;
        let tar = |words: &[&str]| -> Outcome {
            let mut command = Command::new("tar");
            command.args(words);
            let done = host.program(command)?.finish()?;
            if done.code() == Some(0) { Ok(()) } else { Err(Stop::failed(done.to_string())) }
        };
        let root = rootfs(host, 0)?;
        let layer = dir.join("layer").display().to_string();
        tar(&["cf", &layer, "-C", &root.display().to_string(), "."])?;
        let blobs = dir.join("image/blobs/sha256");
        fs::create_dir_all(&blobs)?;
        // The double looks names up, and does not check digests.
        let blob = |name: char, bytes: &[u8]| fs::write(blobs.join(name.to_string().repeat(64)), bytes);
        let digest = |name: char| format!("sha256:{}", name.to_string().repeat(64));
        blob('a', &fs::read(&layer)?)?;
        let config = r#"{"architecture":"amd64","os":"linux","config":{"Env":["IMAGE=yes"],"Entrypoint":["/bin/payload"],"Cmd":["sleep"],"WorkingDir":"/tmp","User":"7:8","Volumes":{"/vol":{}}}}"#;
        blob('b', config.as_bytes())?;
        let layers =
            format!("[{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"{}\"}}]", digest('a'));
        blob('c', format!("{{\"config\":{{\"digest\":\"{}\"}},\"layers\":{layers}}}", digest('b')).as_bytes())?;
        fs::write(dir.join("image/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        fs::write(dir.join("image/index.json"), format!("{{\"manifests\":[{{\"digest\":\"{}\"}}]}}", digest('c')))?;
        let made = node.dir().join("srv/data/template/cache").join(name).display().to_string();
        let members: &[&str] = if dotted { &["."] } else { &["oci-layout", "index.json", "blobs"] };
        let image = dir.join("image").display().to_string();
        tar(&[&["cf", &made, "-C", &image], members].concat())?;
        Ok(format!("data:vztmpl/{name}"))
    };
    let (good, dotted) = (archive("good.tar", false)?, archive("dotted.tar", true)?);
    let id = node.next_id(host)?;
    let on = ["--ostype", "unmanaged", "--arch", "amd64", "--unprivileged", "0", "--rootfs", "data:0"];
    let words = [&["create", &id, &good, "--env", "OURS=1", "--entrypoint", "/ours"], on.as_slice()].concat();
    let made = node.must(host, "pct", &words)?;
    ensure!(made.starts_with("Detected OCI archive\n"), "{made}");
    let config = node.must(host, "pct", &["config", &id])?;
    for line in
        ["entrypoint: /bin/payload sleep", "env: IMAGE=yes", "cmode: console", "lxc.init.cwd: /tmp", "lxc.init.uid: 7"]
            .into_iter()
            .chain(["lxc.init.gid: 8", "lxc.signal.halt: SIGTERM"])
    {
        ensure!(config.lines().any(|one| one == line), "no {line:?} in {config}");
    }
    node.must(host, "pct", &["start", &id])?;
    node.must(host, "pct", &["stop", &id])?;
    let second = node.next_id(host)?;
    let words = [&["create", &second, &dotted], on.as_slice()].concat();
    let made = node.must(host, "pct", &words)?;
    ensure!(made.starts_with("extracting archive '"), "{made}");
    let root = node.dir().join(format!("srv/data/images/{second}/subvol-{second}-disk-0.subvol"));
    ensure!(
        root.join("oci-layout").exists() && root.join("blobs").exists(),
        "the image was not taken for a root file system"
    );
    Ok(())
}

/// §2, destroy.
pub(super) fn destroy(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let root = rootfs(host, 0)?;
    let first = create(host, &node, &root, "sleep", &["--rootfs", "data:0", "--protection", "1"])?;
    let said = format!("can't remove CT {first} - protection mode enabled\n");
    expect(&node.call(host, "pct", &["destroy", &first])?, 255, "", &said)?;
    let foreign = format!("data:{first}/subvol-{first}-disk-0.subvol");
    let second = create(host, &node, &root, "sleep", &["--rootfs", &foreign])?;
    let gone = node.call(host, "pct", &["destroy", &second])?;
    let warning = format!("ignore deletion of '{foreign}', CT {second} isn't the owner!");
    ensure!(gone.code() == Some(0) && gone.stdout.contains(&warning), "{gone}");
    ensure_eq!(gone.stderr, "Task finished with 1 warning(s)!\n");
    let path = node.dir().join(format!("srv/data/images/{first}"));
    ensure!(path.exists(), "another's volume was deleted");
    node.must(host, "pct", &["set", &first, "--delete", "protection"])?;
    node.must(host, "pct", &["destroy", &first])?;
    ensure!(!path.exists(), "its own volume is still there");
    Ok(())
}

/// §2, mount.
pub(super) fn mount(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let id = create(host, &node, &rootfs(host, 0)?, "sleep", &[])?;
    let at = node.dir().join(format!("var/lib/lxc/{id}/rootfs"));
    expect(&node.call(host, "pct", &["mount", &id])?, 0, &format!("mounted CT {id} in '{}'\n", at.display()), "")?;
    ensure!(at.join("bin/payload").exists(), "nothing is mounted");
    expect(&node.call(host, "pct", &["mount", &id])?, 255, "", "CT is locked (mounted)\n")?;
    expect(&node.call(host, "pct", &["unmount", &id])?, 0, "", "")?;
    expect(&node.call(host, "pct", &["unmount", &id])?, 255, "", "no lock found trying to remove 'mounted'  lock\n")
}

/// §2, snapshot, listsnapshot, rollback.
pub(super) fn snapshots(host: &Host) -> Outcome {
    let node = Node::make(host)?;
    let id = create(host, &node, &rootfs(host, 0)?, "sleep", &["--rootfs", "data:0"])?;
    expect(&node.call(host, "pct", &["snapshot", &id, "one"])?, 255, "", "snapshot feature is not available\n")?;
    let none = "snapshot 'one' does not exist\n";
    expect(&node.call(host, "pct", &["rollback", &id, "one"])?, 255, "", none)?;
    let refused = node.call(host, "pct", &["snapshot", &id, "1"])?;
    ensure!(refused.stderr.starts_with("400 Parameter verification failed.\nsnapname: "), "{refused}");
    let tree = format!("`-> {:<27} {:<23} You are here!\n", "current", "");
    expect(&node.call(host, "pct", &["listsnapshot", &id])?, 0, &tree, "")
}

/// A node whose storage `tank` is on ZFS, with a dataset of a root file system.
fn on_zfs(host: &Host) -> Result<(Pool, Node, String), Stop> {
    let pool = Pool::new(host, 256)?;
    let (dataset, _) = pool.dataset("pve")?;
    let node = Node::make_with(host, &["--zfs", &dataset])?;
    Ok((pool, node, dataset))
}

/// A dataset with the payload, and a clone of it by hand for the container that is next (§4.7).
fn prepared(host: &Host, node: &Node, pool: &Pool, dataset: &str) -> Result<(String, PathBuf), Stop> {
    let id = node.next_id(host)?;
    let (image, at) = pool.dataset("image")?;
    for dir in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(at.join(dir))?;
    }
    fs::copy(host.payload(), at.join("bin/payload"))?;
    pool.zfs(&["snapshot", &format!("{image}@ready")])?;
    pool.zfs(&["clone", &format!("{image}@ready"), &format!("{dataset}/subvol-{id}-disk-0")])?;
    let root = at.with_file_name("pve").join(format!("subvol-{id}-disk-0"));
    Ok((id, root))
}

/// §2, snapshot, listsnapshot, rollback; §4.7.
pub(super) fn zfs_snapshots(host: &Host) -> Outcome {
    let (pool, node, dataset) = on_zfs(host)?;
    let (id, root) = prepared(host, &node, &pool, &dataset)?;
    let volume = format!("tank:subvol-{id}-disk-0");
    create(host, &node, &root, "sleep", &["--rootfs", &volume])?;
    node.must(host, "pct", &["start", &id])?;
    fs::write(root.join("tmp/file"), "before")?;
    expect(&node.call(host, "pct", &["snapshot", &id, "one", "--description", "first"])?, 0, "", "")?;
    let used = "snapshot name 'one' already used\n";
    expect(&node.call(host, "pct", &["snapshot", &id, "one"])?, 255, "", used)?;
    fs::write(root.join("tmp/file"), "after")?;
    node.must(host, "pct", &["snapshot", &id, "two"])?;
    let old = format!("can't rollback, 'one' is not most recent snapshot on '{volume}'\n");
    expect(&node.call(host, "pct", &["rollback", &id, "one"])?, 255, "", &old)?;
    let tree = node.must(host, "pct", &["listsnapshot", &id])?;
    let lines: Vec<&str> = tree.lines().collect();
    ensure!(lines.len() == 3 && lines[0].starts_with("`-> one ") && lines[0].ends_with(" first"), "{tree}");
    ensure!(lines[1].starts_with(" `-> two ") && lines[1].ends_with(" no-description"), "{tree}");
    ensure!(lines[2].starts_with("  `-> current ") && lines[2].ends_with(" You are here!"), "{tree}");
    expect(&node.call(host, "pct", &["delsnapshot", &id, "two"])?, 0, "", "")?;
    expect(&node.call(host, "pct", &["rollback", &id, "one"])?, 0, "", "")?;
    ensure_eq!(fs::read_to_string(root.join("tmp/file"))?, "before");
    expect(&node.call(host, "pct", &["status", &id])?, 0, "status: stopped\n", "")?;
    node.must(host, "pct", &["delsnapshot", &id, "one"])?;
    node.must(host, "pct", &["destroy", &id])?;
    ensure!(!root.exists(), "the dataset is still there");
    pool.zfs(&["list", &format!("{}/image@ready", pool.name)]).map(drop)
}

/// §2, template, clone; §4.7.
pub(super) fn zfs_clones(host: &Host) -> Outcome {
    let (pool, node, dataset) = on_zfs(host)?;
    let (id, root) = prepared(host, &node, &pool, &dataset)?;
    create(host, &node, &root, "sleep", &["--rootfs", &format!("tank:subvol-{id}-disk-0")])?;
    expect(&node.call(host, "pct", &["template", &id])?, 0, "", "")?;
    pool.zfs(&["list", &format!("{dataset}/basevol-{id}-disk-0@__base__")])?;
    let said = "you can't start a CT if it's a template\n";
    expect(&node.call(host, "pct", &["start", &id])?, 255, "", said)?;
    let new = node.next_id(host)?;
    node.must(host, "pct", &["clone", &id, &new])?;
    let config = node.must(host, "pct", &["config", &new])?;
    let volume = format!("rootfs: tank:basevol-{id}-disk-0/subvol-{new}-disk-0");
    ensure!(config.contains(&volume) && !config.contains("template"), "{config}");
    node.must(host, "pct", &["start", &new])?;
    node.must(host, "pct", &["stop", &new])?;
    node.must(host, "pct", &["destroy", &new])?;
    node.must(host, "pct", &["destroy", &id])?;
    let left = pool.zfs(&["list", "-H", "-r", "-o", "name", &dataset])?;
    ensure_eq!(left, dataset);
    Ok(())
}
