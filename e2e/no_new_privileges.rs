//! process.noNewPrivileges.

use harness::{Feature, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("no_new_privileges")
        .trial("true sets the bit, false and absence leave it", |host| {
            let asked = |value| Ok::<_, harness::Stop>(host.bundle()?.set("/process/noNewPrivileges", json!(value)));
            ensure_eq!(host.report(&asked(true)?)?["no_new_privileges"], "1");
            ensure_eq!(host.report(&asked(false)?)?["no_new_privileges"], "0");
            let absent = host.bundle()?.remove("/process/noNewPrivileges");
            ensure_eq!(host.report(&absent)?["no_new_privileges"], "0");
            Ok(())
        })
        .trial("a set-user-id program gains nothing with it, and root's ids without it", |host| {
            for (bit, uid) in [(true, 1000), (false, 0)] {
                let bundle = host
                    .bundle()?
                    .set("/process/noNewPrivileges", json!(bit))
                    .set("/process/user/uid", json!(1000))
                    .payload(&["spawn", "/bin/raised", "report"]);
                let raised = bundle.rootfs().join("bin/raised");
                std::fs::copy(host.payload(), &raised)?;
                std::fs::set_permissions(&raised, std::os::unix::fs::PermissionsExt::from_mode(0o4755))?;
                let [spawned] = host.lines(&bundle)?;
                let inner: harness::Value = serde_json::from_str(spawned.text("/stdout"))?;
                ensure_eq!(inner["uid"][1], uid, "effective uid with noNewPrivileges {bit}");
            }
            Ok(())
        })
}
