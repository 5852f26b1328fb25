//! Whole configurations: good ones, every kind of fault, the example, and the schema.

use super::keys::{Key, REMARK};
use super::*;
use serde_json::{Value as Json, json};

fn file(text: &str) -> Configuration {
    Configuration::parse(Path::new("/c"), text.to_owned()).unwrap()
}

fn faults(text: &str) -> Vec<String> {
    file(text).faults().iter().map(|error| error.to_string()).collect()
}

const EXAMPLE: &str = include_str!("../../config.json.example");
const SCHEMA: &str = include_str!("../../docs/config.schema.json");

#[test]
fn every_fault_has_its_place_and_a_suggestion() {
    for (text, expected) in [
        (r#"{"routng": []}"#, r#"line 1 column 2: unknown key "routng" [routng] (did you mean "routing"?)"#),
        (
            r#"{"logLevel": "info"}"#,
            r#"line 1 column 2: unknown key "logLevel" [logLevel] (did you mean "log.level"?)"#,
        ),
        (
            "{\n  \"log\": {\"level\": \"wran\"}\n}",
            r#"line 2 column 20: "wran" is none of error, warn, info, debug [log/level] (did you mean "warn"?)"#,
        ),
        (r#"{"root": "run"}"#, r#"line 1 column 10: the path "run" is not absolute [root]"#),
        (r#"{"root": "/run/../x"}"#, r#"line 1 column 10: the path "/run/../x" has ".." in it [root]"#),
        (r#"{"root": 7}"#, "line 1 column 10: an absolute path is needed here, this is a number [root]"),
        (r#"{"root": "/a", "root": "/b"}"#, r#"line 1 column 16: the key "root" stands here twice [root]"#),
        (r#"[]"#, "line 1 column 1: an object is needed here, this is a list []"),
        (
            r#"{"default_backend": "rnc"}"#,
            r#"line 1 column 21: unknown backend "rnc" [default_backend] (did you mean "runc"?)"#,
        ),
        (
            r#"{"default_backend": "kata"}"#,
            r#"line 1 column 21: unknown backend "kata" [default_backend] (one of native, vm, crun, runc, youki, or an absolute path)"#,
        ),
        (
            r#"{"routing": [{"match": {}, "backend": "qm"}]}"#,
            r#"line 1 column 39: the backend "qm" (machines of Proxmox VE) is not in this build of wharf [routing/0/backend]"#,
        ),
        (r#"{"runtimes": {"lxc": "/x"}}"#, r#"line 1 column 15: "lxc" is a backend of wharf's own [runtimes/lxc]"#),
        (
            r#"{"runtimes": {"a": {"args": ["-x"]}}}"#,
            r#"line 1 column 20: "path" is missing [runtimes/a] (The program.)"#,
        ),
        (
            r#"{"routing": [{"match": {"id": ["a", "re:("]}, "backend": "native"}]}"#,
            r#"line 1 column 37: the regular expression "(" is wrong: "#,
        ),
        (
            r#"{"routing": [{"match": {"id": ".*"}, "backend": "native"}]}"#,
            r#"line 1 column 31: the glob ".*" looks like a regular expression [routing/0/match/id] (a regular expression is written "re:.*""#,
        ),
        (
            r#"{"routing": [{"match": {"id": []}, "backend": "native"}]}"#,
            "line 1 column 31: the list is empty, so nothing could match [routing/0/match/id]",
        ),
        (
            r#"{"routing": [{"match": {"annotations": {"a/b": "x"}}, "backend": "native"}]}"#,
            r#"line 1 column 41: the annotation "a/b" is not among trusted_annotations [routing/0/match/annotations/a~1b] (an image can"#,
        ),
        (
            r#"{"routing": [{"match": {"uid": "root"}, "backend": "native"}]}"#,
            r#"line 1 column 32: "root" is no user id and no range as "1000-1999" [routing/0/match/uid]"#,
        ),
        (
            r#"{"routing": [{"match": {}, "backend": "runc", "required": false}]}"#,
            "a backend that is not required needs a fallback [routing/0/required] (name the fallback",
        ),
        (
            r#"{"routing": [{"match": {}, "backend": "runc", "required": true, "fallback": "native"}]}"#,
            "a required backend has no fallback [routing/0/required]",
        ),
        (r#"{"routing": [{"match": {}}]}"#, r#"line 1 column 14: "backend" is missing [routing/0]"#),
        (r#"{"routing": [{"backend": "runc"}]}"#, r#"line 1 column 14: "match" is missing [routing/0]"#),
        (r#"{"proxmox": {"timeout": 0}}"#, "a number from 1 to 86400 is needed here [proxmox/timeout]"),
        (r#"{"proxmox": {"vmid_range": [200, 100]}}"#, "the last number is below the first [proxmox/vmid_range]"),
        (r#"{"storage": {"keep_for": "a week"}}"#, r#""a week" is no duration, as 168h [storage/keep_for]"#),
        (r#"{"network": {"dns": ["8.8.8"]}}"#, r#""8.8.8" is no IP address [network/dns/0]"#),
    ] {
        let found = faults(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with("configuration /c line "), "{}", found[0]);
        assert!(found[0].contains(expected), "{text}:\n  {}\n  {expected}", found[0]);
    }
}

#[test]
fn all_faults_are_told_in_the_order_of_the_file() {
    let found = faults("{\"x\": 1,\n\"root\": \"r\",\n\"default_backend\": \"qm\"}");
    let lines: Vec<bool> = (1..=3).map(|line| found[line - 1].contains(&format!("line {line} "))).collect();
    assert_eq!(lines, [true; 3], "{found:?}");
    let first = file("{\"x\": 1, \"root\": 2}").routing().unwrap_err().to_string();
    assert!(first.contains("\"x\"") && first.ends_with("1 more: see wharf config check)"), "{first}");
}

#[test]
fn the_configuration_of_a_bundle_is_not_taken_for_ours() {
    let text = "{\n  \"ociVersion\": \"1.0.2\"}".to_owned();
    let error = Configuration::parse(Path::new("/c"), text).unwrap_err().to_string();
    assert!(error.contains("line 2 column 3: this is the config.json of a bundle"), "{error}");
}

#[test]
fn a_mistake_in_a_rule_does_not_hide_where_the_records_are() {
    let broken = file(r#"{"root": "/r", "log": {"file": "/l", "format": "json", "level": "debug"}, "routing": 7}"#);
    let options = broken.options().unwrap();
    assert_eq!((options.root.as_deref(), options.log.as_deref()), (Some(Path::new("/r")), Some(Path::new("/l"))));
    assert_eq!((options.json, options.level), (Some(true), Some(Level::Debug)));
    assert!(broken.routing().is_err());
    assert!(file(r#"{"root": 1}"#).options().is_err());
}

#[test]
fn a_file_is_named_by_an_absolute_path_and_must_be_one() {
    let dir = std::env::temp_dir().join(format!("wharf-config-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let path = dir.join("c.json");
    let write = |mode: u32| {
        std::fs::write(&path, r#"{"root": "/r"}"#).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    write(0o644);
    let root = |found: Result<Option<Configuration>>| found.unwrap().unwrap().options().unwrap().root.unwrap();
    assert_eq!(root(find(Some(&path), Some("/other".into()))), Path::new("/r"), "the option wins");
    assert_eq!(root(find(None, Some(path.clone().into()))), Path::new("/r"));
    let text = |found: Result<Option<Configuration>>| found.unwrap_err().to_string();
    for relative in ["c.json", "./c.json"] {
        assert!(text(find(Some(Path::new(relative)), None)).starts_with("--config "));
        assert!(text(find(None, Some(relative.into()))).contains("never comes from the working directory"));
    }
    assert!(text(find(Some(&dir), None)).ends_with("is not a regular file"));
    write(0o646);
    assert!(text(find(Some(&path), None)).ends_with("everybody may write to it"));
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(text(find(Some(&path), None)).ends_with("No such file or directory"), "a named file must exist");
}

#[test]
fn the_example_is_good_and_has_every_key() {
    let example = file(EXAMPLE);
    assert_eq!(example.faults().iter().map(|error| error.to_string()).collect::<Vec<_>>(), Vec::<String>::new());
    let mut missing = Vec::new();
    absent(TOP, "", &[&example.top], &mut missing);
    assert_eq!(missing, Vec::<String>::new());
}

/// Keys that none of the nodes has.
fn absent(keys: &[Key], above: &str, nodes: &[&Node], missing: &mut Vec<String>) {
    for key in keys {
        let name = format!("{above}.{}", key.name);
        let found: Vec<&Node> = nodes.iter().filter_map(|node| node.get(key.name)).collect();
        if found.is_empty() {
            missing.push(name);
            continue;
        }
        let items: Vec<&Node> = found.iter().flat_map(|node| node.items()).collect();
        let values: Vec<&Node> = found.iter().flat_map(|node| node.entries()).map(|entry| &entry.node).collect();
        match &key.form {
            Form::Object(keys) => absent(keys, &name, &found, missing),
            Form::List(Form::Object(keys)) => absent(keys, &name, &items, missing),
            Form::Map(Form::PathOr(keys)) => absent(keys, &name, &values, missing),
            _ => {}
        }
    }
}

/// JSON Schema, draft 2020-12.
fn schema(form: &Form) -> Json {
    match form {
        Form::Text | Form::Pattern => json!({ "type": "string", "minLength": 1 }),
        Form::Path => json!({ "type": "string", "pattern": "^/" }),
        Form::Switch => json!({ "type": "boolean" }),
        Form::Number { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Form::Choice(among) => json!({ "enum": among }),
        Form::Duration => json!({ "type": "string", "pattern": "^\\+?([0-9.]+(ns|us|µs|μs|ms|s|m|h))+$|^\\+?0$" }),
        Form::Address => json!({ "anyOf": [
            { "type": "string", "format": "ipv4" }, { "type": "string", "format": "ipv6" },
        ] }),
        Form::Range { least, most } => {
            let number = json!({ "type": "integer", "minimum": least, "maximum": most });
            json!({ "type": "array", "items": number, "minItems": 2, "maxItems": 2 })
        }
        Form::Uids => json!({ "anyOf": [
            { "type": "integer", "minimum": 0, "maximum": u32::MAX },
            { "type": "string", "pattern": "^[0-9]+(-[0-9]+)?$" },
        ] }),
        Form::OneOrMore(inner) => {
            let one = schema(inner);
            json!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
        }
        Form::List(inner) => json!({ "type": "array", "items": schema(inner) }),
        Form::Map(inner) => json!({
            "type": "object", "properties": { REMARK: true }, "additionalProperties": schema(inner),
        }),
        Form::PathOr(keys) => json!({ "anyOf": [schema(&Form::Path), schema(&Form::Object(keys))] }),
        Form::Object(keys) => {
            let property = |key: &Key| {
                let mut value = schema(&key.form);
                value["description"] = key.about.into();
                (key.name.to_owned(), value)
            };
            let mut properties: serde_json::Map<String, Json> = keys.iter().map(property).collect();
            properties.insert(REMARK.to_owned(), json!({ "description": "A remark for readers." }));
            let mut object = json!({ "type": "object", "properties": properties, "additionalProperties": false });
            let required: Vec<&str> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
            if !required.is_empty() {
                object["required"] = json!(required);
            }
            object
        }
    }
}

fn whole_schema() -> Json {
    let mut whole = schema(&Form::Object(TOP));
    whole["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    whole["title"] = "Configuration of wharf".into();
    whole
}

/// `WHARF_UPDATE=1` writes it anew.
#[test]
fn the_schema_in_docs_is_that_of_the_table() {
    let text = serde_json::to_string_pretty(&whole_schema()).unwrap() + "\n";
    if std::env::var_os("WHARF_UPDATE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.schema.json"), &text).unwrap();
    }
    assert!(
        SCHEMA == text || std::env::var_os("WHARF_UPDATE").is_some(),
        "docs/config.schema.json is not of the table"
    );
}

#[test]
fn the_example_satisfies_the_schema_and_a_broken_one_does_not() {
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.enable_format_assertions();
    compiler.add_resource("config.schema.json", serde_json::from_str(SCHEMA).unwrap()).unwrap();
    let compiled = compiler.compile("config.schema.json", &mut schemas).unwrap();
    let good: Json = serde_json::from_str(EXAMPLE).unwrap();
    schemas.validate(&good, compiled).unwrap();
    for (pointer, value) in [
        ("/root", json!("run")),
        ("/routng", json!([])),
        ("/log/level", json!("loud")),
        ("/routing/0/match/user", json!(1)),
        ("/routing/0/match/id", json!([])),
        ("/proxmox/timeout", json!(0)),
        ("/network/dns/0", json!("8.8.8")),
    ] {
        let mut bad = good.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match bad.pointer_mut(parent).unwrap() {
            Json::Array(items) => items[0] = value,
            object => object[key] = value,
        }
        assert!(schemas.validate(&bad, compiled).is_err(), "{pointer}");
        assert!(!file(&bad.to_string()).faults().is_empty(), "{pointer}");
    }
}

mod importing {
    use super::*;

    const PREDECESSOR: &str = r#"{
  "proxmox": {"pct_path": "/usr/bin/pct", "node": "pve", "timeout": 30, "legacy_api": {"port": 8006}},
  "runtime": {
    "log_level": "info", "log_path": "/var/log/n.log", "root_path": "/var/lib/n", "terminal": false,
    "routing": [
      {"pattern": "^(net-.*|dns-.*)$", "runtime": "crun"},
      {"pattern": "web-*", "runtime": "runc"},
      {"pattern": ".*", "runtime": "lxc"}
    ]
  },
  "container_config": {"crun_name_patterns": ["net-*"], "default_container_type": "lxc"},
  "storage": {"zfs_dataset": "rpool/lxc", "image_path": "/var/lib/n/images"},
  "network": {"bridge": "vmbr50", "dns_servers": ["192.0.2.1"]},
  "colour": "blue"
}"#;

    fn imported(renamed: &[(&str, &str)]) -> import::Imported {
        let renamed: Vec<_> = renamed.iter().map(|(old, new)| ((*old).to_owned(), (*new).to_owned())).collect();
        import(Path::new("/old"), PREDECESSOR, &renamed).unwrap()
    }

    #[test]
    fn what_has_a_place_here_gets_it() {
        let found = imported(&[("lxc", "native")]);
        assert_eq!(
            found.configuration,
            json!({
                "root": "/var/lib/n",
                "log": { "file": "/var/log/n.log", "level": "info" },
                "default_backend": "native",
                "routing": [
                    { "match": { "id": "re:(net-.*|dns-.*)" }, "backend": "crun" },
                    { "match": { "id": "web-*" }, "backend": "runc" },
                    { "match": { "id": "re:.*" }, "backend": "native" },
                    { "match": { "id": ["net-*"] }, "backend": "crun" },
                ],
                "proxmox": { "pct_path": "/usr/bin/pct", "node": "pve", "timeout": 30 },
                "storage": { "zfs_dataset": "rpool/lxc" },
                "network": { "bridge": "vmbr50", "dns": ["192.0.2.1"] },
            })
        );
        assert_eq!(faults(&found.configuration.to_string()), Vec::<String>::new());
    }

    #[test]
    fn what_has_none_is_named_with_its_line_and_the_reason() {
        let notes = imported(&[("lxc", "native")]).notes;
        for expected in [
            "proxmox.legacy_api (line 2): not carried over: Proxmox is reached",
            "runtime.terminal (line 4): not carried over: each bundle",
            "storage.image_path (line 12): not carried over: images",
            "colour (line 14): not carried over: the key is not known",
            "runtime.routing/2 (line 8): \".*\" was taken for a glob there",
            "container_config.crun_name_patterns (line 11): carried over as the last rule, which none reaches: rule 3",
        ] {
            assert!(notes.iter().any(|note| note.starts_with(expected)), "{expected}: {notes:#?}");
        }
        assert!(!notes.iter().any(|note| note.starts_with("to be mended")), "{notes:#?}");
    }

    #[test]
    fn a_backend_that_is_not_there_is_to_be_mended_by_hand() {
        let notes = imported(&[("lxc", "qm")]).notes;
        let expected =
            "to be mended in the result: routing/2/backend: the backend \"qm\" (machines of Proxmox VE) is not in";
        assert!(notes.iter().any(|note| note.starts_with(expected)), "{notes:#?}");
    }
}
