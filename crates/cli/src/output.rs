//! Tables, JSON, sizes and times, as docker's users know them.

use std::io::{self, Write};

use layerstore::{ChangeKind, PathChange};

use crate::style;

/// Prints a table: a header line, then a line for each row, columns aligned.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> io::Result<()> {
    let rows = rows.into_iter().map(|row| row.iter().map(|cell| plain(cell)).collect());
    styled_table(header, rows)
}

/// Prints a table whose cells may hold styles; what others say of themselves in them went through [`plain`].
pub(crate) fn styled_table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> io::Result<()> {
    let mut lines = Vec::new();
    let mut writer = tabwriter::TabWriter::new(&mut lines).minwidth(0).padding(3).ansi(true);
    let header: Vec<_> = header.iter().map(|name| style::paint(style::HEADING, name)).collect();
    writeln!(writer, "{}", header.join("\t"))?;
    for row in rows {
        writeln!(writer, "{}", row.join("\t"))?;
    }
    writer.flush()?;
    drop(writer);
    style::print(&lines)
}

/// A text on one line and without escape sequences: what an image says of itself must not break a table, or paint
/// the terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> io::Result<()> {
    // Standard output itself makes a system call for each line.
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    serde_json::to_writer_pretty(&mut stdout, value)?;
    writeln!(stdout)?;
    stdout.flush()
}

/// Standard output for an archive: what std offers looks for the ends of lines in it.
pub(crate) fn stream() -> io::Result<layerstore_sys::File> {
    Ok(layerstore_sys::pipe::stdout()?)
}

/// Prints one line.
pub(crate) fn line(text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Prints a path with the bytes it has.
pub(crate) fn path(path: &std::path::Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut stdout = io::stdout().lock();
    stdout.write_all(path.as_os_str().as_bytes())?;
    stdout.write_all(b"\n")
}

/// Prints a warning on stderr.
pub(crate) fn warning(text: impl std::fmt::Display) {
    complain(&format!("layerstore: warning: {text}\n"));
}

/// Writes whole lines to stderr with one call, so that what several processes say there does not mix.
pub(crate) fn complain(text: &str) {
    // Nowhere is left to complain to when stderr is closed.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints a line for each change: `A `, `C ` or `D ` and the path from `/`; odd bytes as they are.
pub(crate) fn changes(changes: &[PathChange]) -> io::Result<()> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    for change in changes {
        stdout.write_all(letter(change.kind).as_bytes())?;
        stdout.write_all(b" /")?;
        stdout.write_all(change.path.as_bytes())?;
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}

/// The letter of a change.
pub(crate) fn letter(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Added => "A",
        ChangeKind::Modified => "C",
        ChangeKind::Deleted => "D",
    }
}

/// A size in decimal units with three significant digits, as docker shows it: `187MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match (unit, value) {
        (0, _) | (_, 100.0..) => 0,
        (_, 10.0..) => 1,
        _ => 2,
    };
    let number = format!("{value:.digits$}");
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{}", UNITS.get(unit).unwrap_or(&"B"))
}

/// The first twelve digits of an ID, without `sha256:`.
pub(crate) fn short(id: impl std::fmt::Display) -> String {
    let id = id.to_string();
    id.strip_prefix("sha256:").unwrap_or(&id).chars().take(12).collect()
}

/// How long ago something was, in docker's words, from nanoseconds since 1970.
pub(crate) fn ago(nanoseconds: i64) -> String {
    let seconds = jiff::Timestamp::now().as_second() - nanoseconds.div_euclid(1_000_000_000);
    words(seconds)
}

/// How long ago an RFC 3339 time was; nothing for one that cannot be read.
pub(crate) fn ago_text(time: Option<&str>) -> String {
    let parsed = time.and_then(|time| time.parse::<jiff::Timestamp>().ok());
    parsed
        .map_or_else(|| "N/A".to_owned(), |time| words(jiff::Timestamp::now().as_second() - time.as_second()))
}

fn words(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, weeks) = (hours / 24, hours / (24 * 7));
    match seconds {
        ..1 => "Less than a second ago".to_owned(),
        1 => "1 second ago".to_owned(),
        2..60 => format!("{seconds} seconds ago"),
        60..120 => "About a minute ago".to_owned(),
        120..3600 => format!("{minutes} minutes ago"),
        3600..5400 => "About an hour ago".to_owned(),
        _ if hours < 48 => format!("{hours} hours ago"),
        _ if hours < 24 * 7 * 2 => format!("{days} days ago"),
        _ if hours < 24 * 30 * 2 => format!("{weeks} weeks ago"),
        _ if hours < 24 * 365 * 2 => format!("{} months ago", days / 30),
        _ => format!("{} years ago", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(0, "0B")]
    #[case(999, "999B")]
    #[case(1_000, "1kB")]
    #[case(4_250_000, "4.25MB")]
    #[case(12_345_678, "12.3MB")]
    #[case(187_200_000, "187MB")]
    #[case(999_999_999, "1GB")]
    fn sizes_read_as_docker_shows_them(#[case] bytes: u64, #[case] text: &str) {
        assert_eq!(size(bytes), text);
    }

    #[rstest::rstest]
    #[case(0, "Less than a second ago")]
    #[case(59, "59 seconds ago")]
    #[case(3_700, "About an hour ago")]
    #[case(7_300, "2 hours ago")]
    #[case(3 * 86_400, "3 days ago")]
    #[case(70 * 86_400, "2 months ago")]
    #[case(800 * 86_400, "2 years ago")]
    fn times_read_as_docker_shows_them(#[case] seconds: i64, #[case] text: &str) {
        assert_eq!(words(seconds), text);
    }
}
