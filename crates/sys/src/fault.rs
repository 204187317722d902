//! Fail points: every call of this crate can be made to fail, to be cut short or to end the process, at a chosen
//! place and time. Compiled with the feature `fault` only.
//!
//! A *site* is a place in the source that makes a call. [`set`] installs rules for the whole process; the first
//! rule that matches a call decides. [`counts`] says how often each site was reached.
//!
//! Invariant: without rules every call is made as if this module were not there.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Errno;

/// A place that makes a call: file as the compiler names it, line, column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// The source file.
    pub file: &'static str,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// The call's name.
    pub call: &'static str,
}

/// What happens instead of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It fails; `EINTR` makes the caller try again.
    Fail(Errno),
    /// It is made with half of its buffer; a call without one is made as it is.
    Short,
    /// The process dies at once (`SIGKILL`), before the call.
    Abort,
    /// It is not made and succeeds; a call that gives a value is made as it is.
    Skip,
}

/// Which calls a rule is for. Everything that is given has to match.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// The source file's last component and the line.
    pub site: Option<(String, u32)>,
    /// The name of the call.
    pub call: Option<String>,
    /// What the call's subject (as in error messages) contains.
    pub subject: Option<String>,
    /// Which of the matching calls is the first one that counts, from 1; 0 counts as 1.
    pub nth: u64,
    /// For how many calls from then on; 0 is all.
    pub times: u64,
    /// Count `nth` and `times` for each site by itself.
    pub each_site: bool,
    /// What happens.
    pub action: Option<Action>,
}

#[derive(Default)]
struct State {
    rules: Vec<(Rule, BTreeMap<Option<Site>, u64>)>,
    counts: BTreeMap<Site, u64>,
    fired: u64,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

thread_local! {
    /// The call that is being made gets half of its buffer.
    static SHORT: Cell<bool> = const { Cell::new(false) };
}

fn state() -> MutexGuard<'static, Option<State>> {
    // Plain counters, whole at any time.
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Installs rules and forgets what was counted. With no rules, calls are counted only.
pub fn set(rules: Vec<Rule>) {
    let rules = rules.into_iter().map(|rule| (rule, BTreeMap::new())).collect();
    *state() = Some(State { rules, ..State::default() });
}

/// Takes all rules away, and says how often one was applied.
pub fn clear() -> u64 {
    state().take().map_or(0, |state| state.fired)
}

/// How often each site was reached since [`set`].
pub fn counts() -> Vec<(Site, u64)> {
    state()
        .as_ref()
        .map(|state| state.counts.iter().map(|(site, count)| (*site, *count)).collect())
        .unwrap_or_default()
}

/// Makes a call as the rules say.
pub(crate) fn run<T: 'static>(
    call: &'static str,
    place: &'static Location<'static>,
    subject: &impl Fn() -> String,
    operation: &mut impl FnMut() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    match decide(call, place, subject) {
        None => operation(),
        Some(Action::Fail(errno)) => Err(errno),
        Some(Action::Short) => {
            SHORT.set(true);
            let outcome = operation();
            SHORT.set(false);
            outcome
        }
        Some(Action::Abort) => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }
        Some(Action::Skip) => {
            let unit: Box<dyn Any> = Box::new(());
            match unit.downcast::<T>() {
                Ok(nothing) => Ok(*nothing),
                Err(_) => operation(),
            }
        }
    }
}

fn decide(
    call: &'static str,
    place: &'static Location<'static>,
    subject: &impl Fn() -> String,
) -> Option<Action> {
    let site = Site { file: place.file(), line: place.line(), column: place.column(), call };
    let mut guard = state();
    let State { rules, counts, fired } = guard.as_mut()?;
    *counts.entry(site).or_default() += 1;
    for (rule, seen) in rules {
        let here = |(file, line): &(String, u32)| *line == site.line && site.file.ends_with(file.as_str());
        let matches = rule.site.as_ref().is_none_or(here)
            && rule.call.as_ref().is_none_or(|name| name == call)
            && rule.subject.as_ref().is_none_or(|text| subject().contains(text));
        if !matches {
            continue;
        }
        let seen = seen.entry(rule.each_site.then_some(site)).or_default();
        *seen += 1;
        let first = rule.nth.max(1);
        if *seen >= first && (rule.times == 0 || *seen < first.saturating_add(rule.times)) {
            *fired += 1;
            return rule.action;
        }
    }
    None
}

/// What of the bytes is to be written now.
pub(crate) fn shorten(bytes: &[u8]) -> &[u8] {
    if SHORT.get() { bytes.get(..bytes.len().div_ceil(2)).unwrap_or(bytes) } else { bytes }
}

/// How much of the buffer is to be filled now.
pub(crate) fn shorten_mut(buffer: &mut [u8]) -> &mut [u8] {
    if SHORT.get() {
        let half = buffer.len().div_ceil(2);
        buffer.split_at_mut(half).0
    } else {
        buffer
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]
    use std::io::Write as _;

    use super::*;

    /// One test: the rules are the process's.
    #[test]
    fn rules_fail_shorten_skip_and_count_calls() {
        let place = tempfile::tempdir().unwrap();
        let dir = crate::Dir::open(place.path()).unwrap();
        let fail = |nth, times, errno| Rule {
            call: Some("mkdirat".to_owned()),
            subject: Some("wanted".to_owned()),
            nth,
            times,
            action: Some(Action::Fail(errno)),
            ..Rule::default()
        };
        set(vec![fail(2, 1, Errno::NOSPC)]);
        dir.make_dir(b"wanted-1", 0o700).unwrap();
        dir.make_dir(b"other", 0o700).unwrap();
        assert_eq!(dir.make_dir(b"wanted-2", 0o700).unwrap_err().errno(), Errno::NOSPC);
        dir.make_dir(b"wanted-3", 0o700).unwrap();
        let counted: u64 =
            counts().iter().filter(|(site, _)| site.call == "mkdirat").map(|(_, count)| count).sum();
        assert_eq!((counted, clear()), (4, 1));

        set(vec![fail(1, 1, Errno::INTR)]);
        dir.make_dir(b"wanted-4", 0o700).unwrap();
        assert_eq!(clear(), 1, "interrupted, and made again");

        let short = Rule { call: Some("write".to_owned()), action: Some(Action::Short), ..Rule::default() };
        set(vec![short]);
        let mut file = dir.create_file(b"file", 0o600).unwrap();
        assert_eq!(file.write(b"12345").unwrap(), 3);
        file.write_all(b"45").unwrap();
        assert_eq!(clear(), 3);
        assert_eq!(std::fs::read(place.path().join("file")).unwrap(), b"12345");

        let skip =
            |call: &str| Rule { call: Some(call.to_owned()), action: Some(Action::Skip), ..Rule::default() };
        set(vec![skip("mkdirat"), skip("statx")]);
        dir.make_dir(b"never", 0o700).unwrap();
        assert!(dir.try_stat(b"never").unwrap().is_none(), "a call that gives a value is made");
        clear();
    }
}
