//! Finding a project ID that nobody has, beside any number of processes that look for one at the same moment.
//!
//! Other programs take IDs on the same file system: dockerd counts up from 1 or from the highest it knows,
//! administrators name theirs in `/etc/projid` and `/etc/projects`. There is no register of them all, and no lock
//! that all would take. What everybody agrees on is what the file system counts, and that is enough:
//!
//! 1. An ID is drawn at random from a range far away from everybody's, [`FIRST`] and what follows. One that has
//!    inodes, or a name, is somebody's: another one is drawn. A limit alone is nobody's in this range: a limit is set
//!    here after there is an inode and taken away while there still is one, so it is left of a store whose directory
//!    was removed as a whole.
//! 2. The layer's directory, which is empty, is given to the project. From here on it has an inode for all to see.
//! 3. The project is looked at again. Exactly one inode: it is this layer's, because whoever comes later finds it at
//!    1, or two of them at 3. More than one: somebody drew the same ID between 1 and 2, the directory is given back,
//!    and another ID drawn. Two who meet both give way; nobody ever believes to be alone who is not.
//! 4. The limit is set, whatever limit was there.
//!
//! Numbers are drawn from few at first, and from twice as many after some failures. IDs stay dense, then, and are used
//! again: xfs keeps a block for each 30 IDs that were ever limited, for ever.

use layerstore_sys::{self as sys, Dir, Errno};

/// The first ID: `L` in the highest byte. Below 2^31, because some tools read signed numbers.
const FIRST: u32 = 0x4c00_0000;
/// How many are drawn from at first, and how often that is doubled.
const WINDOW: u32 = 64;
const DOUBLINGS: u32 = 18;
/// How many there are.
const COUNT: u32 = WINDOW << DOUBLINGS;
/// How many draws fail until there are twice as many to draw from.
const PATIENCE: u32 = 4;
/// Draws until it is given up: more than it takes until all are drawn from.
const DRAWS: u32 = 100;

/// The project of a layer's directory, where it is one that was claimed for it.
pub(super) fn own(dir: &Dir) -> sys::Result<Option<u32>> {
    let Some(id) = of_tree(dir)?.filter(|id| is_ours(*id)) else { return Ok(None) };
    // A store that lies in a limited layer, of a container that runs containers, is the project of that one all over.
    Ok((of_tree(&dir.open_dir(b"..")?)? != Some(id)).then_some(id))
}

/// The project that a directory gives to what is made in it and asks of what is moved into it.
pub(super) fn of_tree(dir: &Dir) -> sys::Result<Option<u32>> {
    let found = sys::project::of(dir)?;
    Ok(found.filter(|found| found.inherited).map(|found| found.id))
}

/// Gives an empty directory to a project that nobody else has.
///
/// # Errors
/// Those of the calls made; `EUSERS` when none was found.
pub(super) fn claim(dir: &Dir) -> sys::Result<u32> {
    let named = named()?;
    for draw in 0..DRAWS {
        let window = WINDOW << (draw / PATIENCE).min(DOUBLINGS);
        let id = FIRST + random()? % window;
        if !named.contains(&id) && sys::project::usage(dir, id)?.inodes == 0 {
            sys::project::assign(dir, id)?;
            if sys::project::usage(dir, id)?.inodes == 1 {
                return Ok(id);
            }
            sys::project::assign(dir, 0)?;
        }
    }
    Err(sys::Error::new("quotactl_fd", format!("{}, a project that nobody has", dir.show(b"")), Errno::USERS))
}

fn is_ours(id: u32) -> bool {
    (FIRST..FIRST + COUNT).contains(&id)
}

fn random() -> sys::Result<u32> {
    getrandom::u32().map_err(|_| sys::Error::new("getrandom", "", Errno::IO))
}

/// The IDs among [`FIRST`] and what follows that an administrator has named, whether anything has them or not.
fn named() -> sys::Result<Vec<u32>> {
    let mut found = Vec::new();
    // NAME:ID and ID:PATH, projid(5) and projects(5).
    for (path, field) in [("/etc/projid", 1), ("/etc/projects", 0)] {
        match sys::fs::read_to_string(path, 16 << 20) {
            Ok(text) => found.extend(ids(&text, field)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn ids(text: &str, field: usize) -> impl Iterator<Item = u32> {
    let id = move |line: &str| line.split(':').nth(field)?.trim().parse().ok();
    text.lines().filter_map(id).filter(|id| is_ours(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("# a comment\nlogs:1275068417\nfar:7\nodd\nodd:\n", 1, &[FIRST + 1])]
    #[case("1275068418:/srv/a\n 1275068419 :/srv/b:1\n5:/srv/c\n", 0, &[FIRST + 2, FIRST + 3])]
    #[case("", 0, &[])]
    fn named_projects_are_read(#[case] text: &str, #[case] field: usize, #[case] expected: &[u32]) {
        assert_eq!(ids(text, field).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_range_is_below_what_tools_read_as_negative() {
        assert!(FIRST + COUNT < i32::MAX as u32 && !is_ours(FIRST - 1) && !is_ours(FIRST + COUNT));
    }
}
