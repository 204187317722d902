//! The clauses of the contract, read out of README.md, so that text and suite cannot drift apart.

/// One numbered promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Its number, `L3`.
    pub id: &'static str,
    /// The promise, in markdown.
    pub text: &'static str,
}

/// The contract.
pub const README: &str = include_str!("../README.md");

/// Every clause, in order: the rows `| L3 | promise |` of the tables of README.md.
pub fn clauses() -> Vec<Clause> {
    README.lines().filter_map(parse).collect()
}

/// Clauses that stand under one heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The heading, `Lifecycle`.
    pub title: &'static str,
    /// Its clauses, in order.
    pub clauses: Vec<Clause>,
}

/// Every clause under its heading, in order: `## L. Lifecycle`.
pub fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in README.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let title = heading.split_once(". ").map_or(heading, |(_, title)| title);
            sections.push(Section { title, clauses: Vec::new() });
        } else if let (Some(section), Some(clause)) = (sections.last_mut(), parse(line)) {
            section.clauses.push(clause);
        }
    }
    sections.retain(|section| !section.clauses.is_empty());
    sections
}

fn parse(line: &'static str) -> Option<Clause> {
    let row = line.strip_prefix("| ")?.strip_suffix(" |")?;
    let (id, text) = row.split_once(" | ")?;
    let number = id.strip_prefix(|letter: char| letter.is_ascii_uppercase())?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(Clause { id, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clause_stands_under_a_heading() {
        let sections = sections();
        let under: Vec<_> = sections.iter().flat_map(|section| section.clauses.clone()).collect();
        assert_eq!(under, clauses());
        assert_eq!((sections[0].title, sections[0].clauses[0].id), ("Lifecycle", "L1"));
    }

    #[test]
    fn rows_of_the_tables_are_clauses_and_nothing_else_is() {
        let clauses = clauses();
        assert!(clauses.len() > 70, "{} clauses", clauses.len());
        assert!(clauses.iter().any(|clause| clause.id == "L1" && clause.text.starts_with("`create`")));
        assert_eq!(parse("| clause | promise |"), None);
        assert_eq!(parse("|---|---|"), None);
        let mut ids: Vec<_> = clauses.iter().map(|clause| clause.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), clauses.len(), "a clause number is used twice");
    }
}
