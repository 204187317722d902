//! Rules for fail points as text, so that a failure can be replayed from a command line.
//!
//! ```text
//! site=dir.rs:97,nth=2,times=1,action=ENOSPC; call=syncfs,action=skip
//! ```
//!
//! Keys: `site` (file and line), `call`, `subject` (a part of what the call is about), `nth`, `times`, `each` (count
//! for each site by itself), `action` (`EIO`, `ENOSPC`, `EMFILE`, `EINTR`, `EROFS`, `short`, `abort`, `skip`).

use layerstore_sys::Errno;
use layerstore_sys::fault::{Action, Rule};

/// Every errno that a call can be made to answer with, by name.
pub const ERRNOS: [(&str, Errno); 5] = [
    ("EIO", Errno::IO),
    ("ENOSPC", Errno::NOSPC),
    ("EMFILE", Errno::MFILE),
    ("EINTR", Errno::INTR),
    ("EROFS", Errno::ROFS),
];

/// Reads rules, separated by semicolons.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(text: &str) -> Result<Vec<Rule>, String> {
    text.split(';').map(str::trim).filter(|part| !part.is_empty()).map(rule).collect()
}

fn rule(text: &str) -> Result<Rule, String> {
    let mut rule = Rule::default();
    for part in text.split(',').map(str::trim) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let number = || value.parse::<u64>().map_err(|error| format!("{part}: {error}"));
        match key {
            "site" => {
                let (file, line) = value.rsplit_once(':').ok_or_else(|| format!("{part}: no line"))?;
                rule.site =
                    Some((file.to_owned(), line.parse().map_err(|error| format!("{part}: {error}"))?));
            }
            "call" => rule.call = Some(value.to_owned()),
            "subject" => rule.subject = Some(value.to_owned()),
            "nth" => rule.nth = number()?,
            "times" => rule.times = number()?,
            "each" => rule.each_site = true,
            "action" => rule.action = Some(action(value)?),
            _ => return Err(format!("{part}: no such key")),
        }
    }
    Ok(rule)
}

fn action(word: &str) -> Result<Action, String> {
    match word {
        "short" => Ok(Action::Short),
        "abort" => Ok(Action::Abort),
        "skip" => Ok(Action::Skip),
        _ => ERRNOS
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, errno)| Action::Fail(*errno))
            .ok_or_else(|| format!("{word}: no such action")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_and_nonsense_refused() {
        let rules =
            parse("site=dir.rs:97,nth=2,times=1,action=ENOSPC; call=syncfs,each,action=skip").unwrap();
        assert_eq!(rules[0].site, Some(("dir.rs".to_owned(), 97)));
        assert_eq!((rules[0].nth, rules[0].times, rules[0].action), (2, 1, Some(Action::Fail(Errno::NOSPC))));
        assert!(rules[1].each_site && rules[1].action == Some(Action::Skip));
        for wrong in ["action=ENOTHING", "site=dir.rs", "nth=x", "colour=red"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
