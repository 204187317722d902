//! Images that go to and come from other programs, through the command line and on every driver.
//!
//! Trees are compared entry by entry: type, mode, owner, size, content, time, xattrs, hard-link groups, devices.
//! What a peer is known to lose is taken out of the comparison with that peer alone, and said there.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests look at disks directly")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail tests")]

mod committed;
mod daemons;
mod debian;
mod peers;
mod sample;
mod sources;
#[path = "../support/mod.rs"]
mod support;
