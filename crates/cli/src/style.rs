//! Colour and bars, for people at a terminal only.
//!
//! Invariant: what is written through [`print`] has no escape sequences where nobody sees them: no terminal,
//! `NO_COLOR` (no-color.org), `TERM=dumb`. No meaning is carried by colour alone.

use std::io::{self, Write as _};

use anstream::adapter::strip_bytes;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

/// Headings.
pub(crate) const HEADING: Style = Style::new().bold();
/// What is there for completeness.
pub(crate) const QUIET: Style = Style::new().dimmed();
/// Names of images.
pub(crate) const IMAGE: Style = AnsiColor::Green.on_default().bold();
/// Names of containers.
pub(crate) const CONTAINER: Style = AnsiColor::Cyan.on_default().bold();
/// What several share.
pub(crate) const SHARED: Style = AnsiColor::Blue.on_default();
/// What one has for itself.
pub(crate) const UNIQUE: Style = AnsiColor::Yellow.on_default();

/// Writes many lines to standard output, without styles where they would be noise. In few system calls: standard output
/// by itself makes one for each line.
pub(crate) fn print(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if AutoStream::choice(&stdout) == ColorChoice::Never {
        stdout.write_all(&strip_bytes(text).into_vec())?;
    } else {
        AutoStream::auto(&mut stdout).write_all(text)?;
    }
    stdout.flush()
}

/// A text in a style.
pub(crate) fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// How wide bars are, in columns.
const WIDTH: u64 = 12;

/// Two parts of `whole` as a bar: shared, then unique. A part that is there is at least one column.
pub(crate) fn bar(shared: u64, unique: u64, whole: u64) -> String {
    let (shared, unique) = columns(shared, unique, whole);
    let rest = usize::try_from(WIDTH).unwrap_or(0).saturating_sub(shared + unique);
    format!("{}{}{}", paint(SHARED, "▓".repeat(shared)), paint(UNIQUE, "█".repeat(unique)), " ".repeat(rest))
}

fn columns(shared: u64, unique: u64, whole: u64) -> (usize, usize) {
    let part = |bytes: u64| match bytes {
        0 => 0,
        _ => (u128::from(bytes) * u128::from(WIDTH) / u128::from(whole.max(1))).clamp(1, u128::from(WIDTH)),
    };
    let unique = part(unique);
    let shared = part(shared).min(u128::from(WIDTH) - unique);
    (usize::try_from(shared).unwrap_or(0), usize::try_from(unique).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #[rstest::rstest]
    #[case(0, 0, 100, (0, 0))]
    #[case(50, 50, 100, (6, 6))]
    #[case(1, 99, 100, (1, 11))]
    #[case(0, 1, u64::MAX, (0, 1))]
    #[case(u64::MAX, u64::MAX, 1, (0, 12))]
    fn a_bar_shows_every_part_and_fits(
        #[case] shared: u64,
        #[case] unique: u64,
        #[case] whole: u64,
        #[case] expected: (usize, usize),
    ) {
        assert_eq!(super::columns(shared, unique, whole), expected);
    }
}
