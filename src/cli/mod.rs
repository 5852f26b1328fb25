//! Turns typed words into a complete request, or into help.
//!
//! The words are scanned once for the verb, and clap is then given that verb's command alone: building all of them
//! takes three times as long. The whole tree is built for help and to explain a mistake.

mod administer;
mod images;
mod request;
mod resolve;
mod resources;
mod signal;
mod table;

pub(crate) use request::{
    Action, Checkpoint, Checkpoints, ConfigAction, Create, Events, Explain, ListFormat, LogOptions, Plan, Request,
    Resources, Restore,
};

use clap::builder::{PossibleValuesParser, StringValueParser, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use table::{ANYWHERE, GLOBALS, LATER, Opt, VERBS, Words};
use wharf_core::{Error, Kind, Level, Result};

/// What the command line comes to.
#[derive(Debug)]
pub(crate) enum Asked {
    Request(Box<Request>),
    Help(String),
    Version,
}

/// Who typed the words, and what else than the words counts.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    /// The name that the program was called by, without directories.
    pub(crate) argv0: String,
    /// `$WHARF_CONFIG`
    pub(crate) configuration: Option<OsString>,
    /// Effective user id. It decides the default of `--root`.
    pub(crate) uid: u32,
    /// Root only of a user namespace that a rootless engine has put us into.
    pub(crate) nested: bool,
    /// `$XDG_RUNTIME_DIR`
    pub(crate) runtime_dir: Option<OsString>,
}

/// Parses the words after the program's name. The log options are returned even with an error: it is logged there.
pub(crate) fn parse(words: Vec<OsString>, caller: &Caller) -> (LogOptions, Result<Asked>) {
    let Scan { words, verb, version, mut log } = Scan::new(words);
    if version && verb.is_none() {
        return (log, Ok(Asked::Version));
    }
    let asked = match &verb {
        Some(name) if LATER.contains(&name.as_str()) => {
            Err(Error::unsupported(format!("verb {name}")).because("is not supported yet"))
        }
        _ => matches(verb.as_deref().and_then(table::verb), words).and_then(|typed| match typed {
            Typed::Words(_) if version => Ok(Asked::Version),
            Typed::Words(matches) => resolve::request(&matches, caller, &mut log).map(Box::new).map(Asked::Request),
            Typed::Help(text) => Ok(Asked::Help(text)),
        }),
    };
    (log, asked)
}

/// What one pass over the words tells, before anything is judged.
struct Scan {
    words: Vec<OsString>,
    verb: Option<String>,
    version: bool,
    log: LogOptions,
}

impl Scan {
    fn new(typed: Vec<OsString>) -> Self {
        let mut scan =
            Scan { words: Vec::with_capacity(typed.len()), verb: None, version: false, log: LogOptions::default() };
        let mut typed = typed.into_iter();
        while let Some(word) = typed.next() {
            let Some(text) = word.to_str().filter(|text| text.starts_with('-') && *text != "-") else {
                scan.verb = Some(word.to_string_lossy().into_owned());
                scan.words.push(word);
                break;
            };
            if text == "--" {
                scan.words.push(word);
                break;
            }
            scan.version |= matches!(text, "-v" | "--version");
            let takes_next = text.strip_prefix("--").and_then(table::global).is_some_and(|opt| opt.value.is_some());
            if !takes_next {
                scan.option(word, table::global);
                continue;
            }
            let name = text[2..].to_owned();
            scan.words.push(word);
            if let Some(value) = typed.next() {
                scan.note(&name, &value);
                scan.words.push(value);
            }
        }
        let words = scan.verb.as_deref().and_then(table::verb);
        let Some(words) = words else {
            scan.words.extend(typed);
            return scan;
        };
        let mut operands = 0;
        // Whether the word is the value of the option before it.
        let mut is_value = false;
        while let Some(word) = typed.next() {
            if std::mem::take(&mut is_value) {
                scan.words.push(word);
                continue;
            }
            if word == "--" {
                scan.words.push(word);
                scan.words.extend(typed);
                break;
            }
            let word = with_two_dashes(word, words);
            if words.rest.is_some() {
                if !word.as_bytes().starts_with(b"-") || word == "-" {
                    operands += 1;
                    if operands < words.before_rest() {
                        scan.words.push(word);
                        continue;
                    }
                    // What follows is not ours to understand; nor is this word, where it is not an operand.
                    let at = scan.words.len() + usize::from(operands == words.operands.len());
                    scan.words.push(word);
                    scan.words.insert(at, "--".into());
                    let mut first = at + 1 == scan.words.len();
                    scan.words.extend(typed.skip_while(|word| std::mem::take(&mut first) && word == "--"));
                    break;
                }
                is_value = word.to_str().is_some_and(|text| words.takes_next(text));
            }
            scan.option(word, |name| words.opt(name));
        }
        scan
    }

    /// Keeps a word; a switch may be written `--switch=true` or `--switch=false`, as Go programs do.
    fn option(&mut self, word: OsString, known: impl Fn(&str) -> Option<&'static Opt>) {
        let split = word.to_str().and_then(|text| text.strip_prefix("--")).and_then(|text| text.split_once('='));
        if let Some((name, value)) = split {
            if let Some(opt) = known(name).filter(|opt| opt.value.is_none()) {
                match value {
                    "true" | "1" => return self.words.push(format!("--{name}").into()),
                    "false" | "0" if opt.among.is_empty() => return,
                    "0" => return self.words.push(format!("--{name}=false").into()),
                    _ => {}
                }
            } else {
                self.note(name, OsStr::from_bytes(&word.as_bytes()[name.len() + 3..]));
            }
        } else if word == "--debug" {
            self.log.level = Level::Debug;
        }
        self.words.push(word);
    }

    /// Remembers where to log, leaving it to clap to refuse what makes no sense.
    fn note(&mut self, name: &str, value: &OsStr) {
        match (name, value.to_str()) {
            ("log", _) => self.log.file = Some(value.into()),
            ("log-format", Some("json")) => self.log.json = true,
            ("log-format", Some("text")) => self.log.json = false,
            ("log-level", Some(level)) => {
                if let (Some(level), true) = (Level::parse(level), self.log.level != Level::Debug) {
                    self.log.level = level;
                }
            }
            _ => {}
        }
    }
}

/// An option of the verb with one dash, as Go programs take it: containerd's shim says `restore -no-subreaper`.
fn with_two_dashes(word: OsString, words: &Words) -> OsString {
    let name = word.to_str().and_then(|text| text.strip_prefix('-')).filter(|name| name.len() > 1);
    let name = name.and_then(|name| name.split('=').next());
    if name.is_none_or(|name| words.opt(name).is_none()) {
        return word;
    }
    let mut long = OsString::from("-");
    long.push(&word);
    long
}

enum Typed {
    Words(ArgMatches),
    Help(String),
}

/// Parses with the one verb's command; where that fails or there is none, the whole tree says why.
fn matches(verb: Option<&'static Words>, words: Vec<OsString>) -> Result<Typed> {
    let program = std::iter::once(OsString::from("wharf"));
    let outcome = match verb {
        Some(verb) => {
            base().disable_help_subcommand(true).subcommand(command(verb)).try_get_matches_from(program.chain(words))
        }
        None => {
            let whole = base().subcommands(VERBS.iter().map(command));
            whole.try_get_matches_from(program.chain(words))
        }
    };
    match outcome {
        Ok(matches) => Ok(Typed::Words(matches)),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp => Ok(Typed::Help(error.render().to_string())),
            _ => Err(mistake(&error, verb)),
        },
    }
}

fn base() -> Command {
    Command::new("wharf")
        .about("Runs OCI containers, with the command line of runc")
        .subcommand_required(true)
        .subcommand_value_name("VERB")
        .subcommand_help_heading("Verbs")
        .override_usage("wharf [OPTIONS] VERB [VERB'S OPTIONS] [CONTAINER-ID]")
        .after_help("'wharf VERB --help' tells the options of a verb.")
        .disable_version_flag(true)
        .args_override_self(true)
        .args(GLOBALS.iter().map(arg))
}

fn command(words: &Words) -> Command {
    let operands = words
        .operands
        .iter()
        .map(|operand| Arg::new(operand.name).value_name(operand.name).required(operand.required).help(operand.help));
    Command::new(words.name)
        .about(words.about)
        .disable_version_flag(true)
        .args_override_self(true)
        .args(words.opts.iter().flat_map(|opts| opts.iter()).map(arg))
        .args(operands)
        .args(words.rest.iter().map(|rest| {
            let many = Arg::new(rest.name).value_name(rest.name).required(rest.required).help(rest.help);
            many.num_args(0..).value_parser(value_parser!(OsString)).allow_hyphen_values(true)
        }))
}

fn arg(opt: &Opt) -> Arg {
    let arg = Arg::new(opt.long).long(opt.long).help(opt.help).global(ANYWHERE.contains(&opt.long));
    let arg = match opt.short {
        Some(short) => arg.short(short),
        None => arg,
    };
    match opt.value {
        None if opt.among.is_empty() => arg.action(ArgAction::SetTrue),
        None => {
            let arg = arg.action(ArgAction::Set).num_args(0..=1).require_equals(true).default_missing_value("true");
            arg.value_name("BOOL").value_parser(value_parser!(bool)).hide_possible_values(true)
        }
        Some(name) => {
            let parser: ValueParser = if !opt.among.is_empty() {
                PossibleValuesParser::new(opt.among).into()
            } else {
                match name {
                    "N" => value_parser!(u32).into(),
                    "FILE" | "DIR" | "PATH" => value_parser!(OsString),
                    _ => StringValueParser::new().into(),
                }
            };
            // A number may be below 0.
            let action = if opt.many { ArgAction::Append } else { ArgAction::Set };
            arg.action(action).value_name(name).value_parser(parser).allow_negative_numbers(true)
        }
    }
}

/// clap's finding in one line that names the word and what may have been meant.
fn mistake(error: &clap::Error, verb: Option<&Words>) -> Error {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(" or ")),
        Some(ContextValue::StyledStr(text)) => Some(text.to_string()),
        _ => None,
    };
    let place = verb.map_or(String::new(), |words| format!("{}: ", words.name));
    let usage = |text: String| Error::new(Kind::Usage, format!("{place}{text}"));
    let word = context(ContextKind::InvalidArg).unwrap_or_default();
    let suggest = |error: Error, kind| match context(kind) {
        Some(other) => error.hint(format!("did you mean {other}?")),
        None => error,
    };
    match error.kind() {
        ErrorKind::UnknownArgument if word.starts_with('-') => {
            let found = usage(format!("unknown option {word}"));
            match word.strip_prefix("--").and_then(table::global) {
                Some(opt) if verb.is_some() => found.hint(format!("--{} is given before the verb", opt.long)),
                _ => suggest(found, ContextKind::SuggestedArg),
            }
        }
        ErrorKind::UnknownArgument => usage(format!("one word too many: {word:?}")),
        ErrorKind::InvalidSubcommand => {
            let name = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            suggest(usage(format!("unknown verb {name:?}")), ContextKind::SuggestedSubcommand)
        }
        ErrorKind::MissingSubcommand => usage("no verb is given".to_owned()).hint("see wharf --help"),
        ErrorKind::MissingRequiredArgument => usage(format!("missing {word}")),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let option = word.split([' ', '[']).next().unwrap_or_default().to_owned();
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            if value.is_empty() {
                return usage(format!("{option} needs a value"));
            }
            let found = usage(format!("{value:?} is no value for {option}"));
            match (context(ContextKind::SuggestedValue), context(ContextKind::ValidValue)) {
                (Some(other), _) => found.hint(format!("did you mean {other}?")),
                (None, Some(all)) => found.hint(format!("one of {all}")),
                _ => found,
            }
        }
        _ => {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default();
            usage(line.strip_prefix("error: ").unwrap_or(line).to_owned())
        }
    }
}

#[cfg(test)]
mod tests;
