//! The nearest known word, for messages about unknown ones.

/// The known word with the fewest edits from `word`, if that is close enough to be what was meant (a third of
/// the letters, at least one).
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= (candidate.chars().count() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance: insertions, removals and replacements of one letter.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        let mut next = vec![left];
        for (&above, &other) in row.iter().skip(1).zip(&to) {
            let cost = (diagonal + usize::from(letter != other)).min(above + 1).min(left + 1);
            diagonal = above;
            left = cost;
            next.push(cost);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[rstest::rstest]
    #[case("drvier", Some("driver"))]
    #[case("graph_root", Some("graphroot"))]
    #[case("run-root", Some("runroot"))]
    #[case("sycn", None)]
    #[case("colour", None)]
    fn the_nearest_key(#[case] word: &str, #[case] found: Option<&str>) {
        assert_eq!(super::nearest(word, ["driver", "graphroot", "runroot", "sync"]), found);
    }
}
