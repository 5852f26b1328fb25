//! The survey against a backend that refuses what a test tells it to.

use super::*;
use wharf_core::Kind;

/// Refuses what its function says, the first thing first.
struct Judge {
    refuses: fn(&Value) -> Option<Error>,
    judges: bool,
}

impl Judge {
    fn draft(&self, bundle: &Bundle) -> Result<Vec<Remark>> {
        let config: Value = serde_json::from_slice(&bundle.raw).unwrap();
        let mounts = config["mounts"].as_array().into_iter().flatten().enumerate();
        let odd = mounts.filter(|(_, mount)| mount["options"][0] == "odd");
        match (self.refuses)(&config) {
            Some(error) => Err(error),
            None => Ok(odd.map(|(index, _)| Remark::nearly(format!("mounts/{index}/options/0"), "odd")).collect()),
        }
    }
}

fn look(config: Value, judge: &Judge) -> Vec<(String, Verdict, String)> {
    let spec = serde_json::from_value(config.clone()).unwrap();
    let bundle = Bundle { dir: "/b".into(), spec, raw: config.to_string().into_bytes() };
    let rows = survey(&bundle, (0, 0), judge.judges, |bundle| judge.draft(bundle)).unwrap();
    rows.into_iter().map(|row| (row.property, row.verdict, row.why.join("; "))).collect()
}

fn of<'r>(rows: &'r [(String, Verdict, String)], property: &str) -> (Verdict, &'r str) {
    let row = rows.iter().find(|row| row.0 == property).unwrap_or_else(|| panic!("no {property} in {rows:?}"));
    (row.1, &row.2)
}

fn config() -> Value {
    serde_json::json!({
        "ociVersion": "1.3.0",
        "root": { "path": "rootfs" },
        "process": { "cwd": "/", "args": ["a", "b"], "user": { "uid": 0, "gid": 0 }, "env": ["bad", "A=1", "worse"] },
        "mounts": [
            { "destination": "/0", "options": ["no"] },
            { "destination": "/1" },
            { "destination": "/2", "options": ["no"] },
            { "destination": "/3", "options": ["odd", "x"] },
        ],
        "swims": { "fast": true },
        "hostname": null,
    })
}

fn refusing_env(config: &Value) -> Option<Error> {
    let env = config["process"]["env"].as_array()?;
    let index = env.iter().position(|one| !one.as_str().unwrap_or_default().contains('='))?;
    Some(Error::invalid(format!("variable {}", env[index])).at(format!("process/env/{index}")))
}

#[test]
fn all_that_is_refused_is_found_at_its_own_place() {
    let judge = Judge {
        refuses: |config| {
            let mounts = config["mounts"].as_array()?;
            let bad = mounts.iter().position(|mount| mount["options"][0] == "no");
            let bad = bad.map(|index| Error::invalid("option no").at(format!("mounts/{index}")));
            refusing_env(config).or(bad)
        },
        judges: true,
    };
    let rows = look(config(), &judge);
    let (verdict, why) = of(&rows, "process/env");
    assert_eq!(verdict, Verdict::Refused);
    assert_eq!(why, "variable \"bad\" [process/env/0]; variable \"worse\" [process/env/2]");
    for mount in ["mounts/0/options", "mounts/0/destination", "mounts/2/options"] {
        assert_eq!(of(&rows, mount), (Verdict::Refused, "option no"));
    }
    assert_eq!(of(&rows, "mounts/1/destination"), (Verdict::Applied, ""));
    // The remark is of the last draft, which had fewer mounts.
    assert_eq!(of(&rows, "mounts/3/options"), (Verdict::Approximated, "odd [mounts/3/options/0]"));
    assert_eq!(of(&rows, "swims"), (Verdict::Ignored, "runtime-spec 1.3 knows no such property"));
    assert!(rows.iter().all(|row| row.0 != "hostname" && !row.0.starts_with("swims/")), "{rows:?}");
}

#[test]
fn what_a_bundle_cannot_be_without_does_not_hide_the_rest() {
    let judge = Judge {
        refuses: |config| match config["root"]["path"].as_str() {
            Some("rootfs") => Some(Error::new(Kind::System, "open rootfs").at("root/path")),
            Some(_) => refusing_env(config),
            None => Some(Error::invalid("root is missing").at("root")),
        },
        judges: true,
    };
    let rows = look(config(), &judge);
    assert_eq!(of(&rows, "root/path"), (Verdict::Refused, "open rootfs"));
    assert_eq!(of(&rows, "process/env").0, Verdict::Refused);
    let mut without = config();
    without.as_object_mut().unwrap().remove("root");
    let rows = look(without, &judge);
    assert_eq!(of(&rows, "root"), (Verdict::Refused, "root is missing"));
    assert_eq!(of(&rows, "process/env").0, Verdict::Refused);
}

#[test]
fn what_follows_from_a_cut_is_not_held_against_the_bundle() {
    let judge = Judge {
        refuses: |config| match config.pointer("/linux/uidMappings").and_then(Value::as_array).map(Vec::as_slice) {
            Some([]) | None => Some(Error::invalid("no uidMappings").at("linux/uidMappings")),
            Some([one]) if one["size"] == 0 => Some(Error::invalid("size").at("linux/uidMappings/0")),
            Some(_) => None,
        },
        judges: true,
    };
    let mut bundle = config();
    bundle["linux"] = serde_json::json!({ "uidMappings": [{ "containerID": 0, "hostID": 0, "size": 0 }] });
    let rows = look(bundle, &judge);
    assert_eq!(of(&rows, "linux/uidMappings/0/size"), (Verdict::Refused, "size"));
    assert_eq!(rows.iter().filter(|row| row.1 == Verdict::Refused).count(), 3, "{rows:?}");
}

#[test]
fn an_error_that_nothing_in_the_bundle_causes_ends_the_search() {
    let judge = Judge { refuses: |_| Some(Error::system("read /proc", 13)), judges: true };
    let rows = look(config(), &judge);
    assert_eq!(of(&rows, ""), (Verdict::Refused, "read /proc: Permission denied"));
    let stubborn = Judge { refuses: |_| Some(Error::invalid("no").at("mounts/1/destination")), judges: true };
    assert_eq!(of(&look(config(), &stubborn), "mounts/1/destination"), (Verdict::Refused, "no"));
}

#[test]
fn a_backend_that_hands_the_bundle_on_is_said_to_judge_nothing() {
    let rows = look(config(), &Judge { refuses: |_| None, judges: false });
    assert!(rows.iter().all(|row| matches!(row.1, Verdict::HandedOn | Verdict::Approximated)), "{rows:?}");
    assert_eq!(of(&rows, "swims").0, Verdict::HandedOn);
}
