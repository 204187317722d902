//! Arguments that clap refuses, said as every other error is: one line and a hint, or one JSON object.
//!
//! Help and the version are no errors: they go to stdout as clap lays them out.

use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::args::Format;
use crate::failure::Failure;

/// Prints what clap says and gives the exit code: 0 for help and version, 2 for wrong usage.
pub(crate) fn report(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
    }
    failure(&error.render().to_string()).report(format(std::env::args_os()))
}

/// The format that was asked for, as far as it can be told from arguments that are wrong.
fn format(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Format {
    let words: Vec<_> = arguments.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let pairs = words.windows(2).any(|pair| pair == ["--format", "json"]);
    if pairs || words.iter().any(|word| word == "--format=json") { Format::Json } else { Format::Text }
}

/// The failure that clap's text tells of: its first paragraph is the reason, a tip or the usage the hint.
fn failure(text: &str) -> Failure {
    let one_line = |lines: &str| lines.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = text.split("\n\n");
    let reason = one_line(paragraphs.next().unwrap_or_default());
    let reason = reason.strip_prefix("error: ").unwrap_or(&reason);
    let rest: Vec<_> = paragraphs.map(one_line).collect();
    let tip = rest.iter().find_map(|line| line.strip_prefix("tip: ").map(ToOwned::to_owned));
    let usage = || rest.iter().find_map(|line| Some(format!("usage: {}", line.strip_prefix("Usage: ")?)));
    // Who typed a verb that is not there wants to see those that are.
    let verbs = || {
        let usage = usage()?;
        let (verb, _) = usage.strip_prefix("usage: ")?.strip_suffix(" <COMMAND>")?.split_once(" [")?;
        Some(format!("`{verb} --help` lists the commands"))
    };
    let hint =
        tip.or_else(verbs).or_else(usage).unwrap_or_else(|| "`layerstore --help` tells more".to_owned());
    Failure::usage("read arguments", reason).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(&["layerstore", "--format", "json", "frob"], Format::Json)]
    #[case(&["layerstore", "frob", "--format=json"], Format::Json)]
    #[case(&["layerstore", "frob", "--format", "text"], Format::Text)]
    #[case(&["layerstore", "json"], Format::Text)]
    fn the_format_is_told_from_wrong_arguments(#[case] words: &[&str], #[case] expected: Format) {
        assert_eq!(format(words.iter().map(Into::into)), expected);
    }
}
