//! README.md, cases and saboteurs agree with each other.

use std::collections::BTreeSet;

use layerstore_conformance::clause::clauses;
use layerstore_conformance::{cases, list, saboteur};

#[test]
fn every_clause_has_a_case_and_exactly_one_saboteur() {
    let wrong: Vec<_> = list::list()
        .into_iter()
        .filter(|clause| clause.cases.is_empty() || clause.saboteurs.len() != 1)
        .map(|clause| {
            format!("{}: {} cases, {} saboteurs", clause.clause, clause.cases.len(), clause.saboteurs.len())
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_case_and_saboteur_names_a_clause_of_the_contract() {
    let known: BTreeSet<_> = clauses().into_iter().map(|clause| clause.id).collect();
    for case in cases::all() {
        assert!(known.contains(case.clause), "{} is about {}, which is no clause", case.id(), case.clause);
    }
    for saboteur in saboteur::all() {
        assert!(known.contains(saboteur.clause), "a saboteur of {}, which is no clause", saboteur.clause);
        for clause in saboteur.also {
            assert!(known.contains(clause), "a saboteur also breaks {clause}, which is no clause");
        }
    }
}

#[test]
fn names_of_cases_are_unique_and_titles_are_not_empty() {
    let mut seen = BTreeSet::new();
    for case in cases::all() {
        assert!(seen.insert(case.id()), "two cases are called {}", case.id());
        assert!(!case.title.is_empty(), "{} has no title", case.id());
    }
}

#[test]
fn every_slow_case_is_a_case() {
    let known: BTreeSet<_> = cases::all().into_iter().map(|case| case.id()).collect();
    for name in cases::slow() {
        assert!(known.contains(*name), "{name} is called slow and is no case");
    }
    assert!(cases::all().into_iter().any(cases::is_slow));
}
