//! process.capabilities: the five sets.

use harness::{Feature, Report, Stop, ensure_eq, json};

const CHOWN: u64 = 1 << 0;
const KILL: u64 = 1 << 5;
const SETPCAP: u64 = 1 << 8;
const NET_ADMIN: u64 = 1 << 12;
const MKNOD: u64 = 1 << 27;

/// Effective, permitted, inheritable, bounding, ambient.
fn sets(report: &Report) -> [u64; 5] {
    ["effective", "permitted", "inheritable", "bounding", "ambient"]
        .map(|set| report.mask(&format!("/capabilities/{set}")))
}

fn named(masks: [u64; 5]) -> harness::Value {
    let names = [
        (CHOWN, "CAP_CHOWN"),
        (KILL, "CAP_KILL"),
        (SETPCAP, "CAP_SETPCAP"),
        (NET_ADMIN, "CAP_NET_ADMIN"),
        (MKNOD, "CAP_MKNOD"),
    ];
    let list = |mask: u64| names.iter().filter(|(bit, _)| mask & bit != 0).map(|(_, name)| *name).collect::<Vec<_>>();
    json!({
        "effective": list(masks[0]), "permitted": list(masks[1]), "inheritable": list(masks[2]),
        "bounding": list(masks[3]), "ambient": list(masks[4]),
    })
}

/// Runs as `uid` with these sets, and gives what the payload has after its exec.
fn run(host: &harness::Host, uid: u32, asked: [u64; 5]) -> Result<[u64; 5], Stop> {
    let bundle = host
        .bundle()?
        .set("/process/capabilities", named(asked))
        .set("/process/user/uid", json!(uid))
        .set("/process/noNewPrivileges", json!(false));
    Ok(sets(&host.report(&bundle)?))
}

pub(crate) fn trials() -> Feature {
    Feature::new("capabilities")
        .trial("root's program has the bounding set, and the ambient and inheritable sets as asked", |host| {
            let all = CHOWN | KILL | MKNOD;
            ensure_eq!(run(host, 0, [all, all, 0, all, 0])?, [all, all, 0, all, 0]);
            // exec of uid 0 raises permitted to bounding | inheritable (capabilities(7)).
            ensure_eq!(run(host, 0, [all, all, all, all, 0])?, [all, all, all, all, 0]);
            Ok(())
        })
        .trial("another user's program has the ambient set and nothing else", |host| {
            let all = KILL | NET_ADMIN;
            ensure_eq!(run(host, 1000, [all, all, 0, all, 0])?, [0, 0, 0, all, 0]);
            ensure_eq!(run(host, 1000, [all, all, all, all, KILL])?, [KILL, KILL, all, all, KILL]);
            Ok(())
        })
        .trial("an ambient capability that is not inheritable is left out, as in the config of runc", |host| {
            ensure_eq!(run(host, 1000, [KILL, KILL, 0, KILL, KILL])?, [0, 0, 0, KILL, 0]);
            Ok(())
        })
        .trial("an inheritable set is empty unless asked for", |host| {
            ensure_eq!(run(host, 0, [KILL, KILL, 0, KILL, 0])?[2], 0);
            Ok(())
        })
        .trial("no capabilities means none, not the caller's", |host| {
            ensure_eq!(run(host, 0, [0; 5])?, [0; 5]);
            let bundle = host.bundle()?.remove("/process/capabilities");
            ensure_eq!(sets(&host.report(&bundle)?), [0; 5]);
            Ok(())
        })
        .trial("a capability outside the bounding set cannot come back by exec", |host| {
            let bundle = host
                .bundle()?
                .set("/process/capabilities", named([KILL, KILL, 0, KILL, 0]))
                .set("/process/noNewPrivileges", json!(false))
                .payload(&["spawn", "/bin/payload", "report"]);
            let [spawned] = host.lines(&bundle)?;
            let inner: harness::Value = serde_json::from_str(spawned.text("/stdout"))?;
            ensure_eq!(sets(&Report(inner)), [KILL, KILL, 0, KILL, 0]);
            Ok(())
        })
        .trial("the kernel refuses what the sets do not hold", |host| {
            let words = ["chown", "/etc/passwd", "7", "7", ";", "mknod", "/var/node", "c", "1", "3"];
            let without = host.bundle()?.payload(&words).set("/process/capabilities", named([KILL, KILL, 0, KILL, 0]));
            let [chown, mknod] = host.lines(&without)?;
            ensure_eq!((chown.errno(), mknod.errno()), ("EPERM", "EPERM"));
            let all = CHOWN | MKNOD;
            let with = host
                .bundle()?
                .payload(&words)
                .set("/process/capabilities", named([all, all, 0, all, 0]))
                .set("/linux/resources/devices", json!([{"allow": true, "access": "rwm"}]));
            let [chown, mknod] = host.lines(&with)?;
            ensure_eq!((chown.errno(), mknod.errno()), ("", ""));
            Ok(())
        })
        .trial("an inheritable capability outside the bounding set is refused at create", |host| {
            host.except("runc", "finds it out at start")?;
            let bundle = host.bundle()?.set("/process/capabilities", named([0, KILL, KILL, KILL, 0]));
            let said = host.create_fails(&bundle.remove("/process/capabilities/bounding"))?;
            harness::ensure!(said.stderr.contains("CAP_KILL") && said.stderr.contains("inheritable"), "{said}");
            Ok(())
        })
        .trial("a capability that nobody knows is refused by name", |host| {
            host.except("runc", "warns and goes on")?;
            let bundle = host.bundle()?.capabilities(&["bounding"], &["CAP_SAIL"]);
            let said = host.create_fails(&bundle)?;
            harness::ensure!(said.stderr.contains("CAP_SAIL"), "{said}");
            Ok(())
        })
}
