//! `pvesh get`: the interface for machines (§7).

use crate::answer::{Death, STALE, WORKER};
use crate::args::{Kind, VMID, Verb, Words};
use crate::world::World;
use crate::{ct, lxc, storage};
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::fmt::Write;

const GET: Verb = Verb {
    name: "pvesh get",
    positionals: &[("api_path", Kind::Text(4096))],
    options: &[
        ("output-format", Kind::One(&["text", "json", "json-pretty", "yaml"])),
        ("noborder", Kind::Flag),
        ("noheader", Kind::Flag),
        ("human-readable", Kind::Flag),
        ("quiet", Kind::Flag),
        // Of the paths below.
        ("vmid", VMID),
        ("type", Kind::One(&["vm", "storage", "node", "sdn"])),
        ("content", Kind::Text(64)),
        ("current", Kind::Flag),
    ],
    keys: false,
    extra: false,
};

pub(crate) fn run(world: &World, words: &[OsString]) -> Result<(), Death> {
    match words.first().and_then(|word| word.to_str()) {
        Some("get") => get(world, &GET.parse(&words[1..])?),
        Some(other) => Err(Death::new(
            WORKER,
            format!("ERROR: unknown command 'pvesh {other}'\nUSAGE: pvesh <COMMAND> [ARGS] [OPTIONS]\n"),
        )),
        None => Err(Death::new(WORKER, "ERROR: no command specified\nUSAGE: pvesh <COMMAND> [ARGS] [OPTIONS]\n")),
    }
}

fn get(world: &World, words: &Words) -> Result<(), Death> {
    let path = words.positionals[0].clone();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let node = world.node();
    let here = |name: &str| match name == node || name == "localhost" {
        true => Ok(()),
        false => Err(Death::worker(format!(
            "hostname lookup '{name}' failed - failed to get address info for: {name}: Name or service not known"
        ))),
    };
    let found = match parts.as_slice() {
        ["cluster", "nextid"] => next_id(world, words)?,
        ["cluster", "resources"] => resources(world, words.get("type")),
        ["cluster", "status"] => json!([{
            "id": format!("node/{node}"), "ip": "127.0.0.1", "level": "", "local": 1, "name": node, "nodeid": 0, "online": 1,
            "type": "node"
        }]),
        ["version"] => json!({"release": "9.2", "repoid": "0000000000000000", "version": "9.2.11"}),
        ["nodes"] => Value::Array(
            ct::nodes(world)
                .iter()
                .map(|name| json!({"id": format!("node/{name}"), "node": name, "status": "online", "type": "node"}))
                .collect(),
        ),
        ["nodes", name, "lxc"] => {
            here(name)?;
            containers(world)?
        }
        ["nodes", name, "lxc", id, "config"] => {
            here(name)?;
            config(world, number(id)?, words.is("current"))?
        }
        ["nodes", name, "lxc", id, "status", "current"] => {
            here(name)?;
            let id = number(id)?;
            container(world, id)?
        }
        ["nodes", name, "storage"] => {
            here(name)?;
            Value::Array(storage::all(world).iter().map(|one| {
                let content = one.options.get("content").cloned().unwrap_or_default();
                json!({"active": 1, "content": content, "enabled": 1, "shared": 0, "storage": one.name, "type": one.kind})
            }).collect())
        }
        _ => return Err(Death::new(STALE, format!("No 'get' handler defined for '{path}'\n"))),
    };
    print!("{}", format(&found, words.get("output-format").unwrap_or("text")));
    Ok(())
}

fn number(text: &str) -> Result<u32, Death> {
    let mut own = text.to_owned();
    crate::args::judge(VMID, &mut own).map_err(|reason| Death::parameter("vmid", reason))?;
    own.parse().map_err(|_| Death::parameter("vmid", "invalid format"))
}

/// §1, VMID: the first that is free, in the datacenter's range; nothing is reserved.
fn next_id(world: &World, words: &Words) -> Result<Value, Death> {
    let taken: Vec<u32> = ct::guests(world).into_iter().map(|(id, ..)| id).collect();
    if let Some(id) = words.get("vmid") {
        if taken.iter().any(|one| one.to_string() == id) {
            let mut death = Death::parameter("vmid", format!("VM {id} already exists"));
            death.code = STALE;
            return Err(death);
        }
        return Ok(json!(id));
    }
    let text = std::fs::read_to_string(world.pve("datacenter.cfg")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("next-id:")).unwrap_or_default();
    let bound = |name: &str, usual: u32| {
        let of = |part: &str| part.trim().strip_prefix(name)?.strip_prefix('=')?.parse().ok();
        line.split(',').find_map(of).unwrap_or(usual)
    };
    let (lower, upper) = (bound("lower", 100), bound("upper", 999_999));
    let free = (lower..=upper).find(|id| !taken.contains(id));
    let id = free.ok_or_else(|| Death::worker(format!("unable to get any free VMID in range [{lower}, {upper}]")))?;
    Ok(json!(id.to_string()))
}

/// §7: what the statistics daemon has told. Here it has not yet told anything, or, with `state/statistics`, all of it.
fn resources(world: &World, kind: Option<&str>) -> Value {
    let told = world.is("statistics");
    let mut all = Vec::new();
    for (id, node, dir) in ct::guests(world).into_iter().filter(|_| matches!(kind, None | Some("vm"))) {
        let kind = if dir == "lxc" { "lxc" } else { "qemu" };
        let mut one =
            json!({"id": format!("{kind}/{id}"), "node": node, "status": "unknown", "type": kind, "vmid": id});
        if told && kind == "lxc" && node == world.node() {
            let name = ct::load(world, id).ok().and_then(|config| config.current.get("hostname").map(str::to_owned));
            one["name"] = json!(name.unwrap_or_else(|| format!("CT{id}")));
            one["status"] = json!(if ct::is_running(world, id) { "running" } else { "stopped" });
        }
        all.push(one);
    }
    for node in ct::nodes(world).iter().filter(|_| matches!(kind, None | Some("node"))) {
        all.push(json!({"id": format!("node/{node}"), "node": node, "status": if told { "online" } else { "unknown" }, "type": "node"}));
    }
    for one in storage::all(world).iter().filter(|_| matches!(kind, None | Some("storage"))) {
        let id = format!("storage/{}/{}", world.node(), one.name);
        all.push(json!({"id": id, "node": world.node(), "plugintype": one.kind, "status": "available", "storage": one.name, "type": "storage"}));
    }
    all.sort_by_key(|one| one["id"].as_str().map(str::to_owned));
    Value::Array(all)
}

/// Not in order (§7).
fn containers(world: &World) -> Result<Value, Death> {
    let all: Result<Vec<Value>, Death> = ct::ids(world).into_iter().rev().map(|id| container(world, id)).collect();
    all.map(Value::Array)
}

fn container(world: &World, id: u32) -> Result<Value, Death> {
    let config = ct::load(world, id)?;
    let running = ct::is_running(world, id);
    let name = config.current.get("hostname").map_or_else(|| format!("CT{id}"), str::to_owned);
    let mut one =
        json!({"name": name, "status": if running { "running" } else { "stopped" }, "type": "lxc", "vmid": id});
    for key in ["lock", "tags"] {
        if let Some(value) = config.current.get(key) {
            one[key] = json!(value);
        }
    }
    if let Some(pid) = running.then(|| lxc::pid(world, id)).flatten() {
        one["pid"] = json!(pid);
    }
    Ok(one)
}

/// With a digest, `lxc` as pairs, the description as it was given.
fn config(world: &World, id: u32, current: bool) -> Result<Value, Death> {
    let config = ct::load(world, id)?;
    let section = if current { config.current.clone() } else { config.merged() };
    let mut all = Map::new();
    for (key, value) in section.all() {
        let numeric = [
            "memory",
            "swap",
            "cores",
            "tty",
            "cpuunits",
            "unprivileged",
            "onboot",
            "protection",
            "console",
            "template",
        ];
        let number = value.parse::<i64>().ok().filter(|_| numeric.contains(&key.as_str()));
        all.insert(key, number.map_or_else(|| json!(value), |number| json!(number)));
    }
    if !section.raw.is_empty() {
        all.insert("lxc".to_owned(), json!(section.raw));
    }
    all.insert("digest".to_owned(), json!(digest(&config.text())));
    Ok(Value::Object(all))
}

/// Forty digits that change with the text; the real one's are SHA-1.
fn digest(text: &str) -> String {
    let mut digits = String::new();
    for salt in 0..5u32 {
        let hash = text
            .bytes()
            .fold(2_166_136_261 ^ salt, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
        let _ = write!(digits, "{hash:08x}");
    }
    digits
}

fn format(value: &Value, format: &str) -> String {
    match (format, value) {
        ("json", _) => format!("{value}\n"),
        ("json-pretty", _) => format!("{}\n", pretty(value)),
        ("yaml", _) => format!("--- {value}\n"),
        (_, Value::String(text)) => format!("{text}\n"),
        (_, Value::Array(rows)) => table(rows),
        (_, Value::Object(map)) => {
            let rows: Vec<Value> = map.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
            table(&rows)
        }
        (_, other) => format!("{other}\n"),
    }
}

/// Perl's indentation: three blanks, and one in front of each colon.
fn pretty(value: &Value) -> String {
    fn at(value: &Value, depth: usize) -> String {
        let indent = "   ".repeat(depth + 1);
        let wrap = |open: char, parts: Vec<String>, close: char| match parts.is_empty() {
            true => format!("{open}{close}"),
            false => format!("{open}\n{indent}{}\n{}{close}", parts.join(&format!(",\n{indent}")), "   ".repeat(depth)),
        };
        match value {
            Value::Array(all) => wrap('[', all.iter().map(|one| at(one, depth + 1)).collect(), ']'),
            Value::Object(all) => {
                wrap('{', all.iter().map(|(key, one)| format!("\"{key}\" : {}", at(one, depth + 1))).collect(), '}')
            }
            other => other.to_string(),
        }
    }
    at(value, 0)
}

/// §7: drawn as boxes.
fn table(rows: &[Value]) -> String {
    let mut columns: Vec<&String> = rows.iter().filter_map(Value::as_object).flat_map(Map::keys).collect();
    columns.sort();
    columns.dedup();
    if columns.is_empty() {
        return String::new();
    }
    let cell = |value: Option<&Value>| match value {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let lines: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| cell(row.get(column.as_str()))).collect()).collect();
    let widest =
        |at: usize| lines.iter().map(|line| line[at].chars().count()).chain([columns[at].chars().count()]).max();
    let widths: Vec<usize> = (0..columns.len()).map(|at| widest(at).unwrap_or(0)).collect();
    let rule = |left: &str, fill: &str, middle: &str, right: &str| {
        let parts: Vec<String> = widths.iter().map(|width| fill.repeat(width + 2)).collect();
        format!("{left}{}{right}\n", parts.join(middle))
    };
    let line = |cells: Vec<&str>| {
        let parts: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} ")).collect();
        format!("│{}│\n", parts.join("│"))
    };
    let mut text = rule("┌", "─", "┬", "┐");
    text.push_str(&line(columns.iter().map(|column| column.as_str()).collect()));
    text.push_str(&rule("╞", "═", "╪", "╡"));
    for (number, cells) in lines.iter().enumerate() {
        if number > 0 {
            text.push_str(&rule("├", "─", "┼", "┤"));
        }
        text.push_str(&line(cells.iter().map(String::as_str).collect()));
    }
    text.push_str(&rule("└", "─", "┴", "┘"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_a_table_and_a_lone_value_is_itself() {
        assert_eq!(format(&json!("101"), "text"), "101\n");
        assert_eq!(format(&json!("101"), "json"), "\"101\"\n");
        let rows = json!([{"node": "pve1", "type": "node"}]);
        assert_eq!(
            format(&rows, "text"),
            "┌──────┬──────┐\n│ node │ type │\n╞══════╪══════╡\n│ pve1 │ node │\n└──────┴──────┘\n"
        );
        assert_eq!(pretty(&rows), "[\n   {\n      \"node\" : \"pve1\",\n      \"type\" : \"node\"\n   }\n]");
    }
}
