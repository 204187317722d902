//! What a crash laboratory is made of: fail points, processes that are watched and killed from outside, disks
//! whose power can be cut. Compiled with the feature `crash` only.
//!
//! | part | what can go wrong there |
//! |---|---|
//! | [`sites`] | every place of `layerstore-sys` that makes a call, read from its sources |
//! | [`plan`] | calls of `layerstore-sys` that fail, are cut short, are left out, or end the process |
//! | [`supervised`] | any system call of a process, those of SQLite too: failed, or the last thing it did |
//! | [`disk`] | the power goes: the disk has what reached it, in any order since its last flush |
//!
//! Nothing here knows what a store is: the laboratory itself is `cargo xtask crash`.

pub mod disk;
pub mod log;
pub mod plan;
pub mod sites;
pub mod supervised;
