//! The crate's behaviour through its public door: names, transports, configurations, refused documents, and images
//! that go to and come from other programs.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod config;
mod hostile;
mod names;
mod peers;
mod support;
mod transports;
