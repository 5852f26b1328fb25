//! linux.resources.pids.

use harness::{Feature, ensure, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("resources_pids")
        .trial("the limit binds: one process less than the limit can be made", |host| {
            host.needs_controller("pids")?;
            let bundle = host.bundle()?.set("/linux/resources/pids/limit", json!(8)).payload(&["fork", "20"]);
            let [fork] = host.lines(&bundle)?;
            ensure_eq!((&fork["made"], &fork["refused"]), (&json!(7), &json!("EAGAIN")));
            Ok(())
        })
        .trial("-1 and 0 and absence are no limit", |host| {
            host.needs_controller("pids")?;
            for limit in [json!(-1), json!(0), json!(null)] {
                let mut bundle = host.bundle()?.payload(&["fork", "20"]);
                if !limit.is_null() {
                    bundle = bundle.set("/linux/resources/pids/limit", limit.clone());
                }
                let [fork] = host.lines(&bundle)?;
                ensure_eq!(fork["made"], 20, "with limit {limit}");
            }
            Ok(())
        })
        .trial("a limit of 1 leaves room for the payload", |host| {
            host.needs_controller("pids")?;
            let bundle = host.bundle()?.set("/linux/resources/pids/limit", json!(1)).payload(&["fork", "1"]);
            let ran = host.run(&bundle)?;
            // runc's own threads do not fit, and it says so; a runtime of one thread does.
            if host.runtime.name() == "runc" {
                ensure!(ran.code() != Some(0) || ran.report()?["made"] == 0, "{}", ran.finished);
                return Ok(());
            }
            ensure_eq!(ran.report()?["made"], 0);
            Ok(())
        })
}
