//! The crate's behaviour through its public door: names, transports, configurations, refused documents, and images
//! that go to and come from other programs.
// The lints know test functions, not what helps them.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::panic, clippy::unwrap_used)]

mod config;
mod hostile;
mod names;
mod peers;
mod support;
mod transports;
