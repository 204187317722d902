//! Working with less than what the process may.

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::error::{Result, call};

/// Runs `what` without CAP_SYS_RESOURCE: quotas hold then, also on file systems where the capability is a way around
/// them. This concerns the calling thread, and those that it starts meanwhile for as long as they live.
///
/// # Errors
/// Those of `capget` and `capset`; `what` was not run then.
pub fn without_resource<T>(what: impl FnOnce() -> T) -> Result<T> {
    let before = call("capget", String::new, || rustix::thread::capabilities(None))?;
    if !before.effective.contains(CapabilitySet::SYS_RESOURCE) {
        return Ok(what());
    }
    set(CapabilitySets { effective: before.effective - CapabilitySet::SYS_RESOURCE, ..before })?;
    // Also when `what` panics.
    let _again = Again(before);
    Ok(what())
}

/// Gives the thread back what it had.
struct Again(CapabilitySets);

impl Drop for Again {
    fn drop(&mut self) {
        if let Err(error) = set(self.0) {
            // The capability is still permitted, so nothing but a filter of system calls refuses this.
            debug_assert!(false, "{error}");
        }
    }
}

fn set(sets: CapabilitySets) -> Result<()> {
    call("capset", String::new, || rustix::thread::set_capabilities(None, sets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_resource() -> bool {
        rustix::thread::capabilities(None).unwrap().effective.contains(CapabilitySet::SYS_RESOURCE)
    }

    #[test]
    fn the_capability_is_away_meanwhile_in_threads_too_and_back_afterwards() {
        let before = has_resource();
        let started = without_resource(|| {
            assert!(!has_resource());
            std::thread::scope(|scope| scope.spawn(has_resource).join().unwrap())
        });
        assert!(!started.unwrap());
        assert_eq!(has_resource(), before);
        let panicked = std::panic::catch_unwind(|| without_resource(|| panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(has_resource(), before);
    }
}
