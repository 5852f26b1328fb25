//! Many calls at once: one id has one winner, different ids do not wait for each other.

use harness::{Feature, Finished, Stop, ensure, ensure_eq};

pub(crate) fn trials() -> Feature {
    Feature::new("parallel")
        .trial("of many creates of one id exactly one wins", |host| {
            host.except("runc", "1.1 lets two of them through now and then")?;
            let bundle = host.bundle()?.payload(&["sleep"]);
            bundle.save()?;
            let running: Result<Vec<_>, Stop> =
                (0..8).map(|_| host.spawn(&["create", "--bundle", bundle.dir_text(), bundle.id()])).collect();
            let ended: Result<Vec<Finished>, Stop> = running?.into_iter().map(|one| one.finish()).collect();
            let ended = ended?;
            let winners = ended.iter().filter(|one| one.code() == Some(0)).count();
            ensure_eq!(winners, 1, "winners");
            for loser in ended.iter().filter(|one| one.code() != Some(0)) {
                ensure!(loser.stderr.contains(bundle.id()), "{loser}");
            }
            host.runtime.must(&["start", bundle.id()])?;
            host.runtime.must(&["delete", "--force", bundle.id()])?;
            Ok(())
        })
        .trial("twenty containers run at once", |host| {
            let bundles: Result<Vec<_>, Stop> =
                (0..20).map(|_| Ok(host.bundle()?.payload(&["sleep", "300"]))).collect();
            let bundles = bundles?;
            let mut running = Vec::new();
            for bundle in &bundles {
                bundle.save()?;
                running.push(host.spawn(&["run", "--bundle", bundle.dir_text(), bundle.id()])?);
            }
            for one in running {
                let ended = one.finish()?;
                ensure_eq!(ended.code(), Some(0), "{ended}");
            }
            Ok(())
        })
        .trial("starts of one container at once: one wins and the payload runs once", |host| {
            let bundle = host.bundle()?.payload(&["append", "/var/ran", "x", ";", "touch", "/var/ran", ";", "sleep"]);
            std::fs::write(bundle.rootfs().join("var/ran"), "")?;
            let container = host.create(&bundle)?;
            let running: Result<Vec<_>, Stop> = (0..4).map(|_| host.spawn(&["start", bundle.id()])).collect();
            let ended: Result<Vec<Finished>, Stop> = running?.into_iter().map(|one| one.finish()).collect();
            let winners = ended?.iter().filter(|one| one.code() == Some(0)).count();
            ensure!(winners >= 1, "no start won");
            if host.runtime.name() == "wharf" {
                ensure_eq!(winners, 1, "winners");
            }
            container.lines(2)?;
            ensure_eq!(std::fs::read_to_string(bundle.rootfs().join("var/ran"))?, "x");
            container.delete_force()
        })
        .trial("deletes of one container at once leave nothing and hang nowhere", |host| {
            let bundle = host.bundle()?.payload(&["sleep"]);
            let container = host.start(&bundle)?;
            let running: Result<Vec<_>, Stop> =
                (0..4).map(|_| host.spawn(&["delete", "--force", bundle.id()])).collect();
            for one in running? {
                one.finish()?;
            }
            ensure!(container.call("state", &[])?.code() != Some(0), "the container still exists");
            Ok(())
        })
        .trial("state and list during creates and deletes never fail on a container in between", |host| {
            let bundle = host.bundle()?.payload(&["nothing"]);
            bundle.save()?;
            for _ in 0..5 {
                let run = host.spawn(&["run", "--bundle", bundle.dir_text(), bundle.id()])?;
                for _ in 0..5 {
                    let list = host.runtime.call(&["list", "--format", "json"])?;
                    if host.runtime.name() == "wharf" {
                        ensure_eq!(list.code(), Some(0), "{list}");
                    }
                }
                ensure_eq!(run.finish()?.code(), Some(0));
            }
            Ok(())
        })
}
