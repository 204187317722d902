//! The process's limit of open descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::{Result, call};

/// Raises the soft limit of open descriptors to the hard limit, and returns it; none is no limit.
///
/// Long chains need it: mounting or merging one opens a descriptor for each of its layers, and many systems start
/// programs with a soft limit of 1,024 for the sake of `select`, which nothing here uses. For a program's `main`:
/// a library must not change its process.
///
/// # Errors
/// Those of `prlimit64`.
pub fn raise_descriptor_limit() -> Result<Option<u64>> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit { current: maximum, maximum };
    call("prlimit64", || "RLIMIT_NOFILE".to_owned(), || setrlimit(Resource::Nofile, limit))?;
    Ok(maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let raised = raise_descriptor_limit().unwrap();
        let now = getrlimit(Resource::Nofile);
        assert_eq!((now.current, now.maximum), (raised, raised));
    }
}
