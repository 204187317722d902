//! The way to the parent that was resolved last: entries mostly lie beside or below the one before, and a walk then
//! begins where the ways part. Without it every entry of a deep tree costs a walk from the root.
//!
//! Invariant: each step leads where a walk from the root would lead now. [`Places::forget`](super::places::Places::forget)
//! clears it with everything else that a removed directory or symlink makes wrong. What the target only covers, because
//! a lower layer has it, is not removed: therefore the way knows the places on it where symlinks played a part, and what
//! is put at one of them ends it.

use super::super::times::ROOT;
use super::places::Key;

/// Most places that are remembered; a way with more of them is forgotten at once.
pub(super) const MAX_PASSED: usize = 256;

/// Where one component of the path led.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Bytes of the path up to and with this component.
    pub(super) end: usize,
    pub(super) row: u32,
    /// Symlinks that were followed up to here.
    pub(super) links: usize,
}

/// A parent path and its steps.
#[derive(Debug, Default)]
pub(super) struct Way {
    path: Vec<u8>,
    steps: Vec<Step>,
    /// Symlinks, and what came behind the first of them, with the end of the component for which they were passed.
    passed: Vec<(usize, Key)>,
}

impl Way {
    /// The last step that this way shares with the one to `path`.
    pub(super) fn shared(&self, path: &[u8]) -> Step {
        let same = self.path.iter().zip(path).take_while(|(one, other)| one == other).count();
        let leads = |step: &Step| step.end <= same && matches!(path.get(step.end), None | Some(b'/'));
        // Ends grow, so the last one is found from behind.
        let shared = self.steps.iter().rev().find(|step| leads(step));
        shared.copied().unwrap_or(Step { end: 0, row: ROOT, links: 0 })
    }

    /// Goes back to a step that is shared with the way to `path`, and from there by `steps`, on which these places were
    /// passed.
    pub(super) fn turn(
        &mut self,
        path: &[u8],
        shared: Step,
        steps: impl IntoIterator<Item = Step>,
        passed: Vec<(usize, Key)>,
    ) {
        self.steps.truncate(self.steps.partition_point(|step| step.end <= shared.end));
        self.passed.truncate(self.passed.partition_point(|(end, _)| *end <= shared.end));
        self.steps.extend(steps);
        self.passed.extend(passed);
        path.clone_into(&mut self.path);
        if self.passed.len() > MAX_PASSED {
            *self = Self::default();
        }
    }

    /// Something was put at a place.
    pub(super) fn put(&mut self, at: Key) {
        if self.passed.iter().any(|(_, key)| *key == at) {
            *self = Self::default();
        }
    }
}
