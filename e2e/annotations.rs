//! annotations: remembered and told by `state`, to hooks too (hooks.rs).

use harness::{Feature, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("annotations")
        .trial("state tells the annotations of the config", |host| {
            let annotations =
                json!({"org.example.ship": "frigate", "org.example.empty": "", "ä.key": "line\nbreak \"quoted\""});
            let bundle = host.bundle()?.set("/annotations", annotations.clone()).payload(&["sleep"]);
            let container = host.create(&bundle)?;
            ensure_eq!(container.state()?["annotations"], annotations);
            container.start()?;
            ensure_eq!(container.state()?["annotations"], annotations);
            container.delete_force()
        })
        .trial("an annotation with an empty key is refused", |host| {
            host.except("runc", "takes it")?;
            host.create_fails(&host.bundle()?.set("/annotations", json!({"": "x"})))?;
            Ok(())
        })
}
