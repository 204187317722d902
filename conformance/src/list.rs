//! The list of everything: clauses with their text, cases, saboteurs.

use std::fmt::Write as _;

use crate::cases;
use crate::clause::clauses;
use crate::need::Need;
use crate::saboteur;

/// One clause with what checks it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Listed {
    /// The clause.
    pub clause: &'static str,
    /// Its promise.
    pub promise: &'static str,
    /// Its cases.
    pub cases: Vec<ListedCase>,
    /// What its saboteur breaks.
    pub saboteurs: Vec<&'static str>,
}

/// One case of the list.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ListedCase {
    /// Full name.
    pub case: String,
    /// What it asserts.
    pub title: &'static str,
    /// What it needs.
    pub needs: Vec<String>,
}

/// Every clause, in order, with its cases and saboteurs.
pub fn list() -> Vec<Listed> {
    let (cases, saboteurs) = (cases::all(), saboteur::all());
    clauses()
        .into_iter()
        .map(|clause| Listed {
            clause: clause.id,
            promise: clause.text,
            cases: cases
                .iter()
                .filter(|case| case.clause == clause.id)
                .map(|case| ListedCase {
                    case: case.id(),
                    title: case.title,
                    needs: case.needs.iter().map(|need| need_text(*need)).collect(),
                })
                .collect(),
            saboteurs: saboteurs
                .iter()
                .filter(|saboteur| saboteur.clause == clause.id)
                .map(|saboteur| saboteur.what)
                .collect(),
        })
        .collect()
}

fn need_text(need: Need) -> String {
    match need {
        Need::Claims(claim) => format!("claims {}", claim.name()),
        Need::Without(claim) => format!("does not claim {}", claim.name()),
        Need::Has(feature) => feature.name().to_owned(),
    }
}

/// The list as a person reads it.
pub fn list_text() -> String {
    let list = list();
    let mut text = String::new();
    for clause in &list {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}  {}", clause.clause, clause.promise);
        for case in &clause.cases {
            let needs = if case.needs.is_empty() {
                String::new()
            } else {
                format!(" [needs {}]", case.needs.join(", "))
            };
            let _ = writeln!(text, "      case      {}: {}{needs}", case.case, case.title);
        }
        for saboteur in &clause.saboteurs {
            let _ = writeln!(text, "      saboteur  {saboteur}");
        }
    }
    let cases: usize = list.iter().map(|clause| clause.cases.len()).sum();
    let saboteurs: usize = list.iter().map(|clause| clause.saboteurs.len()).sum();
    let _ = writeln!(text, "{} clauses, {cases} cases, {saboteurs} saboteurs", list.len());
    text
}
