//! Checks and reports of this workspace.
fn main() {}
