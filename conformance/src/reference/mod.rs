//! The driver that the suite itself is tested with: a full copy per layer, as plain as can be.
