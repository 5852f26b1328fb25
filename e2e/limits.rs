//! What is read for a caller has a limit: docs/limits.md.

use harness::{Feature, Finished, Outcome, ensure, ensure_eq};
use std::fs::OpenOptions;

pub(crate) fn trials() -> Feature {
    Feature::new("limits")
        .trial("a config.json that has no end is refused before anything is made", |host| {
            host.only_wharf("others read it whole")?;
            let bundle = host.bundle()?;
            bundle.save()?;
            let config = OpenOptions::new().write(true).open(bundle.dir().join("config.json"))?;
            config.set_len((32 << 20) + 1)?;
            let refused = host.runtime.call(&["create", "--bundle", bundle.dir_text(), bundle.id()])?;
            too_long(&refused, 1, "config.json: is longer than 32 MiB")?;
            ensure_eq!(host.runtime.call(&["state", bundle.id()])?.code(), Some(1));
            Ok(())
        })
        .trial("a process object that has no end is refused", |host| {
            host.only_wharf("others read it whole")?;
            let container = host.start(&host.bundle()?.payload(&["sleep"]))?;
            let refused = host.runtime.call(&["exec", "--process", "/dev/zero", container.id()])?;
            too_long(&refused, 255, "read process /dev/zero: is longer than 32 MiB")
        })
        .trial("a configuration to be imported that has no end is refused", |host| {
            host.only_wharf("others have no such verb")?;
            let refused = host.runtime.call(&["config", "import", "/dev/zero"])?;
            too_long(&refused, 1, "read /dev/zero: is longer than 32 MiB")
        })
}

fn too_long(refused: &Finished, code: i32, words: &str) -> Outcome {
    ensure!(refused.code() == Some(code) && refused.last_line().contains(words), "{refused}");
    Ok(())
}
