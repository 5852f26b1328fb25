//! A container's configuration: the file's text, what `pct config` and `pct pending` print of it (§2, §3).

use std::collections::BTreeMap;

/// One of the file's sections: the container as it is, or as a snapshot keeps it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Section {
    pub(crate) keys: BTreeMap<String, String>,
    /// `NAME=value`.
    pub(crate) env: Vec<String>,
    pub(crate) raw: Vec<(String, String)>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Config {
    pub(crate) current: Section,
    pub(crate) pending: Section,
    pub(crate) pending_deletes: Vec<String>,
    pub(crate) snapshots: Vec<(String, Section)>,
    /// What made no sense, as warned of on stderr.
    pub(crate) warnings: Vec<String>,
}

const ENVIRONMENT: &str = "lxc.environment.runtime";

impl Section {
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(String::as_str)
    }

    pub(crate) fn is(&self, key: &str) -> bool {
        self.get(key) == Some("1")
    }

    /// `env` is kept in lines of its own.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        match key {
            "env" => self.env = value.split('\0').map(str::to_owned).collect(),
            _ => drop(self.keys.insert(key.to_owned(), value.to_owned())),
        }
    }

    pub(crate) fn remove(&mut self, key: &str) -> bool {
        match key {
            "env" => !std::mem::take(&mut self.env).is_empty(),
            _ => self.keys.remove(key).is_some(),
        }
    }

    /// Everything of it that has a key, `env` among it.
    pub(crate) fn all(&self) -> BTreeMap<String, String> {
        let mut all = self.keys.clone();
        if !self.env.is_empty() {
            all.insert("env".to_owned(), self.env.join("\0"));
        }
        all
    }

    /// Root file system and mount points, in their order.
    pub(crate) fn mounts(&self) -> Vec<(String, String)> {
        let of = |name: &str| self.get(name).map(|value| (name.to_owned(), value.to_owned()));
        let numbered = (0..256).filter_map(|number| of(&format!("mp{number}")));
        of("rootfs").into_iter().chain(numbered).collect()
    }

    pub(crate) fn numbered(&self, family: &str) -> Vec<(u32, String)> {
        let of = |number: u32| self.get(&format!("{family}{number}")).map(|value| (number, value.to_owned()));
        (0..256).filter_map(of).collect()
    }

    fn read(&mut self, id: u32, line: &str, warnings: &mut Vec<String>) {
        let unparsed = |warnings: &mut Vec<String>| warnings.push(format!("vm {id} - unable to parse config: {line}"));
        let Some((key, value)) = line.split_once(':') else { return unparsed(warnings) };
        let (key, value) = (key.trim_end(), value.trim());
        if key == ENVIRONMENT {
            self.env.push(value.to_owned());
        } else if key.starts_with("lxc.") {
            match crate::keys::is_raw(key) {
                true => self.raw.push((key.to_owned(), value.to_owned())),
                false => warnings.push(format!("vm {id} - unable to parse config: {line}")),
            }
        } else if ["snaptime", "parent", "description"].contains(&key) || crate::keys::kind(key).is_some() {
            let mut value = value.to_owned();
            match crate::keys::kind(key).map_or(Ok(()), |kind| crate::args::judge(kind, &mut value)) {
                Ok(()) => drop(self.keys.insert(key.to_owned(), value)),
                Err(reason) => {
                    warnings
                        .push(format!("vm {id} - unable to parse value of '{key}' - {}", reason.replace('\n', " ")));
                }
            }
        } else {
            unparsed(warnings);
        }
    }

    fn write(&self, text: &mut String) {
        if let Some(description) = self.get("description") {
            for line in description.lines() {
                text.push_str(&format!("#{}\n", encode(line)));
            }
        }
        for (key, value) in self.keys.iter().filter(|(key, _)| *key != "description") {
            text.push_str(&format!("{key}: {value}\n"));
        }
        for variable in &self.env {
            text.push_str(&format!("{ENVIRONMENT}: {variable}\n"));
        }
        for (key, value) in &self.raw {
            text.push_str(&format!("{key}: {value}\n"));
        }
    }
}

/// Control signs, signs beyond ASCII, `%` and `:`.
pub(crate) fn encode(text: &str) -> String {
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'%' && byte != b':';
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], code) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Config {
    pub(crate) fn parse(id: u32, text: &str) -> Self {
        let mut config = Config::default();
        let mut section = Section::default();
        let mut name: Option<String> = None;
        let mut description = String::new();
        let finish = |config: &mut Config, name: &Option<String>, mut section: Section, description: &mut String| {
            if !description.is_empty() {
                section.keys.insert("description".to_owned(), std::mem::take(description));
            }
            match name.as_deref() {
                None => config.current = section,
                Some("pve:pending") => config.pending = section,
                Some(snapshot) => config.snapshots.push((snapshot.to_owned(), section)),
            }
        };
        for line in text.lines() {
            if line.trim().is_empty() {
                continue;
            }
            if let Some(inner) = line.strip_prefix('[').and_then(|line| line.trim_end().strip_suffix(']')) {
                finish(&mut config, &name, std::mem::take(&mut section), &mut description);
                name = Some(inner.to_owned());
            } else if let Some(line) = line.strip_prefix('#') {
                description.push_str(&decode(line));
                description.push('\n');
            } else if let (Some("pve:pending"), Some(keys)) = (name.as_deref(), line.strip_prefix("delete:")) {
                config.pending_deletes =
                    keys.split([',', ' ']).map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned).collect();
            } else {
                section.read(id, line, &mut config.warnings);
            }
        }
        finish(&mut config, &name, section, &mut description);
        config
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        self.current.write(&mut text);
        if self.has_pending() {
            text.push_str("\n[pve:pending]\n");
            if !self.pending_deletes.is_empty() {
                text.push_str(&format!("delete: {}\n", self.pending_deletes.join(",")));
            }
            self.pending.write(&mut text);
        }
        for (name, section) in &self.snapshots {
            text.push_str(&format!("\n[{name}]\n"));
            section.write(&mut text);
        }
        text
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.pending != Section::default() || !self.pending_deletes.is_empty()
    }

    /// As it would be after the next start.
    pub(crate) fn merged(&self) -> Section {
        let mut merged = self.current.clone();
        for key in &self.pending_deletes {
            merged.remove(key);
        }
        for (key, value) in self.pending.all() {
            merged.set(&key, &value);
        }
        merged
    }

    pub(crate) fn apply_pending(&mut self) {
        self.current = self.merged();
        self.pending = Section::default();
        self.pending_deletes.clear();
    }

    pub(crate) fn snapshot(&self, name: &str) -> Option<&Section> {
        self.snapshots.iter().find(|(one, _)| one == name).map(|(_, section)| section)
    }
}

/// §2, config: sorted, the description encoded, then the raw lines.
pub(crate) fn shown(section: &Section) -> String {
    let mut text = String::new();
    for (key, value) in section.all() {
        let value = if key == "description" { encode(&value) } else { value };
        text.push_str(&format!("{key}: {value}\n"));
    }
    for (key, value) in &section.raw {
        text.push_str(&format!("{key}: {value}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "#a%3A b\n#\narch: amd64\nostype: unmanaged\nrootfs: /srv/root\nlxc.environment.runtime: A=1\n\
                        lxc.environment.runtime: B=two words\nlxc.include: /srv/more\n\n[pve:pending]\ndelete: tty\n\
                        entrypoint: /bin/sh\n\n[one]\nrootfs: /srv/root\nsnaptime: 1\n";

    #[test]
    fn a_file_is_read_and_written_the_same() {
        let config = Config::parse(100, TEXT);
        assert_eq!(config.warnings, Vec::<String>::new());
        assert_eq!(config.text(), TEXT);
        assert_eq!(config.current.get("description"), Some("a: b\n\n"));
        assert_eq!(config.merged().get("entrypoint"), Some("/bin/sh"));
        assert!(config.snapshot("one").is_some());
    }

    #[test]
    fn config_prints_as_section_2_tells() {
        let config = Config::parse(100, TEXT);
        assert_eq!(
            shown(&config.current),
            "arch: amd64\ndescription: a%3A b%0A%0A\nenv: A=1\0B=two words\nostype: unmanaged\nrootfs: /srv/root\n\
             lxc.include: /srv/more\n"
        );
    }

    #[test]
    fn what_makes_no_sense_is_warned_of_and_left_out() {
        let config = Config::parse(100, "odd: 1\nlxc.no_new_privs: 1\nmemory: 12\nno colon\narch: amd64\n");
        assert_eq!(config.current.keys.len(), 1);
        assert_eq!(config.warnings[0], "vm 100 - unable to parse config: odd: 1");
        assert_eq!(config.warnings.len(), 4);
    }
}
