//! Words of an instruction: split, unquoted and expanded as docker does it.
//!
//! Source: Dockerfile reference, "Environment replacement"; behaviour compared with docker 20.10.

use std::iter::Peekable;
use std::str::Chars;

/// Splits at white space outside quotes; quotes and backslashes stay for [`expand`].
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            (None | Some('"'), '\\') => {
                word.push(c);
                word.extend(chars.next());
            }
            (None, '"' | '\'') => {
                quote = Some(c);
                word.push(c);
            }
            (Some(open), c) => {
                if c == open {
                    quote = None;
                }
                word.push(c);
            }
            (None, c) => word.push(c),
        }
    }
    if let Some(open) = quote {
        return Err(format!("the quote {open} is not closed"));
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// Removes quotes and replaces `$NAME`, `${NAME}`, `${NAME:-WORD}` and `${NAME:+WORD}`.
pub(super) fn expand(word: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut chars = word.chars().peekable();
    let mut out = String::new();
    while let Some(c) = chars.next() {
        match c {
            '\'' => out.extend(chars.by_ref().take_while(|&c| c != '\'')),
            '"' => {
                while let Some(c) = chars.next() {
                    match c {
                        '"' => break,
                        '\\' => match chars.next() {
                            Some(escaped @ ('"' | '$' | '\\')) => out.push(escaped),
                            Some(other) => out.extend(['\\', other]),
                            None => out.push('\\'),
                        },
                        '$' => variable(&mut chars, lookup, &mut out)?,
                        c => out.push(c),
                    }
                }
            }
            '\\' => out.extend(chars.next()),
            '$' => variable(&mut chars, lookup, &mut out)?,
            c => out.push(c),
        }
    }
    Ok(out)
}

/// What follows a `$`.
fn variable(
    chars: &mut Peekable<Chars<'_>>,
    lookup: &dyn Fn(&str) -> Option<String>,
    out: &mut String,
) -> Result<(), String> {
    if chars.next_if_eq(&'{').is_none() {
        let name = name(chars);
        if name.is_empty() {
            out.push('$');
        } else {
            out.push_str(&lookup(&name).unwrap_or_default());
        }
        return Ok(());
    }
    let name = name(chars);
    let value = lookup(&name).filter(|value| !value.is_empty());
    let malformed = || "a variable is written $NAME, ${NAME}, ${NAME:-WORD} or ${NAME:+WORD}".to_owned();
    if name.is_empty() {
        return Err(malformed());
    }
    match (chars.next(), chars.peek()) {
        (Some('}'), _) => out.push_str(&value.unwrap_or_default()),
        (Some(':'), Some(&operator @ ('-' | '+'))) => {
            chars.next();
            let mut word = String::new();
            let mut depth = 1_u32;
            for c in chars.by_ref() {
                match c {
                    '{' => depth = depth.saturating_add(1),
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                word.push(c);
            }
            if depth > 0 {
                return Err(malformed());
            }
            // The word is taken as it stands: nested replacement would need a bound on depth, and no image that
            // is committed from a command line needs it.
            match (operator, value) {
                ('-', None) | ('+', Some(_)) => out.push_str(&word),
                ('-', Some(value)) => out.push_str(&value),
                _ => {}
            }
        }
        _ => return Err(malformed()),
    }
    Ok(())
}

fn name(chars: &mut Peekable<Chars<'_>>) -> String {
    let mut name = String::new();
    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(c);
    }
    name
}
