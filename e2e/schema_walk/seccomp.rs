//! `linux/seccomp`: personality(2) takes a number and, asked for 0xffffffff, only answers: good to be judged by.

use super::row::{Row, equal, traced};
use crate::seccomp::NEEDED;
use harness::{Receiver, Stop, Value, ensure, json};

const ASK: &[&str] = &["syscall", "personality", "0xffffffff"];
const TWO: &[&str] = &["syscall", "personality", "0xffffffff", ";", "syscall", "personality", "8"];

/// One rule, and what personality(2) answers to the payload.
fn rule(property: &'static str, rule: Value, words: &'static [&'static str], errnos: &'static [&'static str]) -> Row {
    Row::new(property)
        .payload(words)
        .set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }))
        .lines(move |lines| equal(lines.iter().map(|line| line.errno()).collect::<Vec<_>>(), errnos))
}

fn condition(op: &str, value: u64, two: u64) -> Value {
    json!({
        "names": ["personality"], "action": "SCMP_ACT_ERRNO",
        "args": [{ "index": 0, "value": value, "valueTwo": two, "op": op }],
    })
}

/// A listener that is told of personality(2): the words that come with its descriptor.
fn notified(property: &'static str) -> Row {
    Row::new(property)
        .payload(ASK)
        .edit(|host, bundle| {
            Ok(bundle.set(
                "/linux/seccomp",
                json!({
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "listenerPath": host.dir().join("listener"),
                    "listenerMetadata": "tea",
                    "syscalls": [{ "names": ["personality"], "action": "SCMP_ACT_NOTIFY" }],
                }),
            ))
        })
        .look(|host, bundle| {
            ensure!(bundle.config["linux"]["seccomp"].is_object(), "no profile");
            let path = host.dir().join("listener");
            let _ = std::fs::remove_file(&path);
            let receiver = Receiver::listen(&path)?;
            bundle.save()?;
            let running = host.spawn(&["run", "--bundle", bundle.dir_text(), bundle.id()])?;
            let received = receiver.receive();
            host.runtime.must(&["delete", "--force", bundle.id()])?;
            running.finish()?;
            let (received, _) = received?;
            ensure!(received.descriptor.is_some(), "no descriptor came");
            let words: Value = serde_json::from_str(&received.words)?;
            equal(&words["metadata"], &json!("tea"))
        })
}

pub(super) fn rows() -> Vec<Row> {
    let errno = |more: Value| {
        let mut rule = json!({ "names": ["personality"], "action": "SCMP_ACT_ERRNO" });
        for (key, value) in more.as_object().into_iter().flatten() {
            rule[key] = value.clone();
        }
        rule
    };
    let strict =
        || json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{ "names": NEEDED, "action": "SCMP_ACT_ALLOW" }] });
    vec![
        Row::new("linux/seccomp/defaultAction")
            .payload(ASK)
            .set("/linux/seccomp", strict())
            .lines(|lines| equal(lines[0].errno(), "EPERM")),
        Row::new("linux/seccomp/defaultErrnoRet")
            .payload(ASK)
            .beside(move |_, bundle| Ok(bundle.set("/linux/seccomp", strict())))
            .set("/linux/seccomp/defaultErrnoRet", json!(91))
            .lines(|lines| equal(lines[0].errno(), "EPROTOTYPE")),
        Row::new("linux/seccomp/flags")
            .set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"] }))
            .look(|host, bundle| {
                let calls = traced(host, bundle, "seccomp")?;
                ensure!(calls.contains("SECCOMP_FILTER_FLAG_LOG"), "{calls}");
                Err(Stop::skipped("what is logged is the audit's; seccomp(2) is called with the flag"))
            }),
        Row::new("linux/seccomp/architectures")
            .set("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_LOG", "architectures": ["SCMP_ARCH_X86"] }))
            .look(|host, bundle| {
                equal(host.report(bundle)?.text("/seccomp"), "2")?;
                Err(Stop::skipped("no program of another architecture is at hand; the compiler's own tests judge it"))
            }),
        notified("linux/seccomp/listenerPath"),
        notified("linux/seccomp/listenerMetadata"),
        rule("linux/seccomp/syscalls/*/names", errno(json!({})), ASK, &["EPERM"]),
        rule("linux/seccomp/syscalls/*/action", errno(json!({})), ASK, &["EPERM"]),
        rule("linux/seccomp/syscalls/*/errnoRet", errno(json!({ "errnoRet": 38 })), ASK, &["ENOSYS"]),
        rule("linux/seccomp/syscalls/*/args/*/index", condition("SCMP_CMP_EQ", 8, 0), TWO, &["", "EPERM"]),
        rule("linux/seccomp/syscalls/*/args/*/value", condition("SCMP_CMP_EQ", 8, 0), TWO, &["", "EPERM"]),
        rule("linux/seccomp/syscalls/*/args/*/valueTwo", condition("SCMP_CMP_MASKED_EQ", 0xff, 8), TWO, &["", "EPERM"]),
        rule("linux/seccomp/syscalls/*/args/*/op", condition("SCMP_CMP_NE", 8, 0), TWO, &["EPERM", ""]),
    ]
}
