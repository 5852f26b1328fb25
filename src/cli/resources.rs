//! The options of `update` as the resources of runtime-spec.

use clap::ArgMatches;
use serde_json::{Map, Value, json};
use wharf_core::{Error, Kind, Result};

/// One option, how its value reads, and the property that it sets.
struct Limit {
    option: &'static str,
    form: Form,
    at: [&'static str; 2],
}

#[derive(Clone, Copy)]
enum Form {
    Number,
    /// Bytes, with a unit or without.
    Size,
    Text,
}

const fn limit(option: &'static str, form: Form, part: &'static str, property: &'static str) -> Limit {
    Limit { option, form, at: [part, property] }
}

const LIMITS: &[Limit] = &[
    limit("blkio-weight", Form::Number, "blockIO", "weight"),
    limit("cpu-period", Form::Number, "cpu", "period"),
    limit("cpu-quota", Form::Number, "cpu", "quota"),
    limit("cpu-burst", Form::Number, "cpu", "burst"),
    limit("cpu-share", Form::Number, "cpu", "shares"),
    limit("cpu-rt-period", Form::Number, "cpu", "realtimePeriod"),
    limit("cpu-rt-runtime", Form::Number, "cpu", "realtimeRuntime"),
    limit("cpu-idle", Form::Number, "cpu", "idle"),
    limit("cpuset-cpus", Form::Text, "cpu", "cpus"),
    limit("cpuset-mems", Form::Text, "cpu", "mems"),
    limit("memory", Form::Size, "memory", "limit"),
    limit("memory-reservation", Form::Size, "memory", "reservation"),
    limit("memory-swap", Form::Size, "memory", "swap"),
    limit("kernel-memory", Form::Size, "memory", "kernel"),
    limit("kernel-memory-tcp", Form::Size, "memory", "kernelTCP"),
    limit("pids-limit", Form::Number, "pids", "limit"),
];

/// Not to be honoured: wharf makes no groups of Intel RDT.
const REFUSED: [&str; 2] = ["l3-cache-schema", "mem-bw-schema"];

/// What was typed, as the JSON that `--resources` would read. An empty value counts as not given, as with runc.
pub(super) fn typed(words: &ArgMatches) -> Result<Value> {
    let mut resources = Map::new();
    for name in REFUSED {
        if given(words, name).is_some() {
            return Err(Error::unsupported(format!("--{name}")).because("Intel RDT is not supported"));
        }
    }
    for Limit { option, form, at: [part, property] } in LIMITS {
        let Some(text) = given(words, option) else { continue };
        let wrong = || {
            let what = if matches!(form, Form::Size) { "is bytes, as 67108864 or 64M, or -1" } else { "is no number" };
            Error::new(Kind::Usage, format!("update: --{option} {text:?}")).because(what)
        };
        let value = match form {
            Form::Number => json!(text.trim().parse::<i64>().map_err(|_| wrong())?),
            Form::Size => json!(size(text.trim()).ok_or_else(wrong)?),
            Form::Text => json!(text),
        };
        let part = resources.entry(*part).or_insert_with(|| json!({}));
        part[*property] = value;
    }
    Ok(Value::Object(resources))
}

/// Which of the options were given, for a refusal.
pub(super) fn first_given(words: &ArgMatches) -> Option<&'static str> {
    let names = LIMITS.iter().map(|limit| limit.option).chain(REFUSED);
    names.into_iter().find(|name| given(words, name).is_some())
}

fn given<'a>(words: &'a ArgMatches, name: &str) -> Option<&'a str> {
    words.get_one::<String>(name).map(String::as_str).filter(|text| !text.is_empty())
}

/// Units are powers of 1024, with `b` and `ib` behind them or not, in any case: `64m`, `1.5GiB`.
fn size(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = &lower[digits.len()..];
    let unit = unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let digits = digits.trim_end();
    let factor = 1i64 << (10 * power);
    if let Ok(number) = digits.parse::<i64>() {
        return number.checked_mul(factor).filter(|bytes| *bytes >= 0);
    }
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = digits.parse::<f64>().ok().filter(|_| plain)?;
    let bytes = number * factor as f64;
    (bytes < i64::MAX as f64).then_some(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, bytes) in [
            ("-1", -1),
            ("0", 0),
            ("4096", 4096),
            ("64m", 64 << 20),
            ("64MB", 64 << 20),
            ("64MiB", 64 << 20),
            ("1.5g", 3 << 29),
            ("2 k", 2048),
            ("5b", 5),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "-2", "m", "1x", "1e3", "inf", "1.2.3", "9999999p", "0x10"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
