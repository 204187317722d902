//! Instructions of `commit --change`, as a Dockerfile writes them, applied to an image's settings.
//!
//! | instruction | sets |
//! |---|---|
//! | `CMD`, `ENTRYPOINT` | the command, in JSON or shell form; `ENTRYPOINT` clears an inherited command |
//! | `ENV`, `LABEL` | `KEY=VALUE …` or `KEY VALUE` |
//! | `EXPOSE`, `VOLUME` | ports, directories |
//! | `USER`, `WORKDIR`, `STOPSIGNAL` | one value |
//! | `ONBUILD` | adds an instruction for images built on this one |
//!
//! Source: Dockerfile reference; docker and podman take the same list for `commit --change`.

mod words;

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value, json};

use crate::error::{Error, Kind, Result};

const KEYWORDS: [(&str, Keyword); 10] = [
    ("CMD", Keyword::Cmd),
    ("ENTRYPOINT", Keyword::Entrypoint),
    ("ENV", Keyword::Env),
    ("EXPOSE", Keyword::Expose),
    ("LABEL", Keyword::Label),
    ("ONBUILD", Keyword::Onbuild),
    ("STOPSIGNAL", Keyword::Stopsignal),
    ("USER", Keyword::User),
    ("VOLUME", Keyword::Volume),
    ("WORKDIR", Keyword::Workdir),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keyword {
    Cmd,
    Entrypoint,
    Env,
    Expose,
    Label,
    Onbuild,
    Stopsignal,
    User,
    Volume,
    Workdir,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    keyword: Keyword,
    /// What follows the keyword, as it was written.
    argument: String,
}

impl FromStr for Instruction {
    type Err = Error;

    /// Parses `KEYWORD ARGUMENT`, or `KEYWORD=ARGUMENT` as podman takes it too.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |reason: String| refuse(text, reason);
        let text = text.trim();
        let end = text.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        let upper = word.to_ascii_uppercase();
        let Some((_, keyword)) = KEYWORDS.iter().find(|(name, _)| *name == upper) else {
            let known = KEYWORDS.map(|(name, _)| name).join(", ");
            return Err(refuse(format!("not an instruction that can change an image; known are {known}")));
        };
        let argument = rest.strip_prefix('=').unwrap_or(rest).trim();
        if argument.is_empty() {
            return Err(refuse(format!("{upper} takes an argument")));
        }
        let new = Self { keyword: *keyword, argument: argument.to_owned() };
        // What does not depend on the image is refused before anything is done.
        new.apply(&mut Map::new(), true)?;
        Ok(new)
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KEYWORDS.iter().find(|(_, keyword)| *keyword == self.keyword).map_or("", |(name, _)| name);
        write!(f, "{name} {}", self.argument)
    }
}

impl Instruction {
    /// Applies all of them to the `config` object of an image's configuration.
    pub(crate) fn apply_all(all: &[Self], settings: &mut Map<String, Value>) -> Result<()> {
        // docker: an entry point clears the command of the parent image, not one that is set beside it.
        let sets_command = all.iter().any(|one| one.keyword == Keyword::Cmd);
        all.iter().try_for_each(|one| one.apply(settings, sets_command))
    }

    fn apply(&self, settings: &mut Map<String, Value>, sets_command: bool) -> Result<()> {
        self.change(settings, sets_command).map_err(|reason| refuse(&self.to_string(), reason))
    }

    fn change(&self, settings: &mut Map<String, Value>, sets_command: bool) -> Result<(), String> {
        let environment = environment(settings);
        let lookup =
            |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let expand = |word: &str| words::expand(word, &lookup);
        match self.keyword {
            Keyword::Cmd => set_list(settings, "Cmd", self.command(settings)),
            Keyword::Entrypoint => {
                if !sets_command {
                    settings.remove("Cmd");
                }
                set_list(settings, "Entrypoint", self.command(settings));
            }
            Keyword::Env => {
                let mut environment = environment.clone();
                for (key, value) in self.pairs()? {
                    let (key, value) = (expand(&key)?, expand(&value)?);
                    match environment.iter_mut().find(|(known, _)| *known == key) {
                        Some((_, old)) => *old = value,
                        None => environment.push((key, value)),
                    }
                }
                let lines = environment.into_iter().map(|(key, value)| format!("{key}={value}"));
                set_list(settings, "Env", lines.collect());
            }
            Keyword::Label => {
                for (key, value) in self.pairs()? {
                    let (key, value) = (expand(&key)?, expand(&value)?);
                    object(settings, "Labels").insert(key, Value::from(value));
                }
            }
            Keyword::Expose => {
                for word in words::split(&self.argument)? {
                    for port in ports(&expand(&word)?)? {
                        object(settings, "ExposedPorts").insert(port, json!({}));
                    }
                }
            }
            Keyword::Volume => {
                let paths = match json_form(&self.argument) {
                    Some(paths) => paths,
                    None => words::split(&self.argument)?,
                };
                for path in paths {
                    let path = expand(&path)?;
                    if path.is_empty() {
                        return Err("a volume has a path".to_owned());
                    }
                    object(settings, "Volumes").insert(path, json!({}));
                }
            }
            Keyword::User => set_text(settings, "User", expand(&self.one_word()?)?),
            Keyword::Workdir => {
                let current = settings.get("WorkingDir").and_then(Value::as_str).unwrap_or_default();
                let directory = join(current, &expand(&self.argument)?);
                set_text(settings, "WorkingDir", directory);
            }
            Keyword::Stopsignal => {
                let signal = expand(&self.one_word()?)?;
                if !is_signal(&signal) {
                    return Err(format!("`{}` is not a signal", signal.escape_debug()));
                }
                set_text(settings, "StopSignal", signal);
            }
            Keyword::Onbuild => {
                let first = self.argument.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
                if matches!(first.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
                    return Err(format!("{first} may not stand behind ONBUILD"));
                }
                let mut triggers = strings(settings, "OnBuild");
                triggers.push(self.argument.clone());
                set_list(settings, "OnBuild", triggers);
            }
        }
        Ok(())
    }

    /// The command: a JSON list as it stands, anything else as a line for the image's shell.
    fn command(&self, settings: &Map<String, Value>) -> Vec<String> {
        if let Some(words) = json_form(&self.argument) {
            return words;
        }
        let mut command = strings(settings, "Shell");
        if command.is_empty() {
            command = vec!["/bin/sh".to_owned(), "-c".to_owned()];
        }
        command.push(self.argument.clone());
        command
    }

    /// `KEY=VALUE …`, or `KEY VALUE` where the first word has no `=`.
    fn pairs(&self) -> Result<Vec<(String, String)>, String> {
        let words = words::split(&self.argument)?;
        if let Some((key, value)) = self.argument.split_once(char::is_whitespace)
            && !key.contains('=')
        {
            return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
        }
        let pair = |word: String| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(format!("`{}` is not KEY=VALUE", word.escape_debug())),
        };
        words.into_iter().map(pair).collect()
    }

    fn one_word(&self) -> Result<String, String> {
        let mut words = words::split(&self.argument)?;
        match (words.pop(), words.is_empty()) {
            (Some(word), true) => Ok(word),
            _ => Err("exactly one argument is wanted".to_owned()),
        }
    }
}

fn refuse(instruction: &str, reason: String) -> Error {
    let subject = format!("`{}`", instruction.escape_debug());
    Error::new(Kind::InvalidInput, "change image", subject, reason)
}

/// A JSON list of strings; anything else is no list, not an error: docker runs it by the shell.
fn json_form(argument: &str) -> Option<Vec<String>> {
    if argument.starts_with('[') { serde_json::from_str(argument).ok() } else { None }
}

fn strings(settings: &Map<String, Value>, key: &str) -> Vec<String> {
    let items = settings.get(key).and_then(Value::as_array);
    items.into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

fn environment(settings: &Map<String, Value>) -> Vec<(String, String)> {
    let pair = |line: String| match line.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (line, String::new()),
    };
    strings(settings, "Env").into_iter().map(pair).collect()
}

/// Sets a list; an empty one is written as no key at all, as docker reads both.
fn set_list(settings: &mut Map<String, Value>, key: &str, items: Vec<String>) {
    if items.is_empty() {
        settings.remove(key);
    } else {
        settings.insert(key.to_owned(), Value::from(items));
    }
}

fn set_text(settings: &mut Map<String, Value>, key: &str, text: String) {
    settings.insert(key.to_owned(), Value::from(text));
}

/// The object at `key`, made where it is missing or null.
fn object<'a>(settings: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = settings.entry(key).or_insert(Value::Null);
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was made an object just now")
}

/// `PORT[-PORT][/PROTOCOL]` as the keys of `ExposedPorts`.
fn ports(text: &str) -> Result<Vec<String>, String> {
    let bad = || format!("`{}` is not PORT[-PORT][/tcp|/udp|/sctp]", text.escape_debug());
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(bad());
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |digits: &str| {
        let is_plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u16>().ok().filter(|_| is_plain).ok_or_else(bad)
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(bad());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// Joins as a shell's `cd` would, by text; the root's parent is the root.
fn join(current: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{current}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Whether this is a signal's name, with or without `SIG`, or its number.
fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 34] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
        "PIPE", "POLL", "PROF", "PWR", "QUIT", "RTMAX", "RTMIN", "SEGV", "STKFLT", "STOP", "SYS", "TERM",
        "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH",
    ];
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let is_real_time = |rest: &str, sign: char| {
        rest.strip_prefix(sign).is_some_and(|n| n.parse::<u8>().is_ok_and(|n| n <= 15))
    };
    NAMES.contains(&name)
        || matches!(name, "XCPU" | "XFSZ")
        || name.strip_prefix("RTMIN").is_some_and(|rest| is_real_time(rest, '+'))
        || name.strip_prefix("RTMAX").is_some_and(|rest| is_real_time(rest, '-'))
}
