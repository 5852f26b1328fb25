//! process.oomScoreAdj.

use harness::{Feature, ensure, ensure_eq, json};

pub(crate) fn trials() -> Feature {
    Feature::new("oom_score_adj")
        .trial("the payload has the score of its config", |host| {
            for score in [0, 1, 500, 1000] {
                let bundle = host.bundle()?.set("/process/oomScoreAdj", json!(score));
                ensure_eq!(host.report(&bundle)?["oom_score_adj"], score.to_string());
            }
            Ok(())
        })
        .trial("an ordinary user's payload has it too", |host| {
            let bundle = host.bundle()?.set("/process/oomScoreAdj", json!(321)).set("/process/user/uid", json!(1000));
            ensure_eq!(host.report(&bundle)?["oom_score_adj"], "321");
            Ok(())
        })
        .trial("without a score in the config it stays the caller's", |host| {
            let own = std::fs::read_to_string("/proc/self/oom_score_adj")?;
            ensure_eq!(host.report(&host.bundle()?)?["oom_score_adj"], own.trim());
            Ok(())
        })
        .trial("a score beyond 1000 is refused", |host| {
            let ran = host.run(&host.bundle()?.set("/process/oomScoreAdj", json!(1001)))?;
            ensure!(ran.code() != Some(0), "it ran with {}", ran.finished.stdout);
            Ok(())
        })
}
