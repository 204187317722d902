//! Runs as one page for a person: drivers by clauses by file systems.
//!
//! ```text
//! title and totals
//! one card a run            driver, file system, kernel, a bar of passed, failed and skipped
//! what failed               the clause's promise, the case, what was expected and found
//! the matrix                a row a clause, a column a run; a row opens to its cases
//! what was skipped, and why
//! what each driver claims
//! ```
//!
//! The page needs nothing but itself: no script, no font and no picture from elsewhere, so that it can be mailed,
//! attached to a build or read offline. It follows the reader's light or dark setting, and no meaning is carried by
//! colour alone.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{CaseResult, Counts, Report, Verdict};
use crate::clause::{Clause, sections};
use crate::need::Claim;

const STYLE: &str = include_str!("page.css");

/// Several runs as one page.
pub fn html(reports: &[Report]) -> String {
    let mut total = Counts::default();
    reports.iter().for_each(|report| total += report.counts());
    let success = total.passed > 0 && reports.iter().all(Report::is_success);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Storage driver conformance: " (total) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Storage driver conformance" }
                    p.verdict.good[success].bad[!success] {
                        @if success { "✓ every driver keeps the contract" } @else { "✗ the contract is broken" }
                    }
                    p.total { (total) " in " (reports.len()) @if reports.len() == 1 { " run" } @else { " runs" } }
                }
                section.cards aria-label="Runs" { @for report in reports { (card(report)) } }
                (failures(reports))
                (matrix(reports))
                (skips(reports))
                (claims(reports))
                footer { "Written by " code { "layerstore conformance --format html" } "." }
            }
        }
    };
    page.into_string()
}

/// What a run was, and how it ended.
fn card(report: &Report) -> Markup {
    let counts = report.counts();
    let seconds: f64 = report.cases.iter().map(|case| case.duration.as_secs_f64()).sum();
    html! {
        article.card {
            h2 { (report.driver) " " span.setup { (report.setup) } }
            (bar(counts))
            p { (counts) }
            p.quiet {
                @if let Some(environment) = &report.environment { "Linux " (environment.kernel) " · " }
                (format!("{seconds:.1}")) " s of cases"
            }
            @if let Some(reason) = report.environment.as_ref().and_then(|found| found.unusable.as_ref()) {
                p.problem { "cannot run here: " (reason) }
            }
            @for problem in &report.problems { p.problem { "✗ " (problem) } }
        }
    }
}

/// The shares of a run as a bar.
fn bar(counts: Counts) -> Markup {
    let all = (counts.passed + counts.failed + counts.skipped).max(1);
    let share = |count: usize| format!("width:{:.2}%", 100.0 * count as f64 / all as f64);
    html! {
        div.bar role="img" aria-label=(counts.to_string()) {
            span.passed style=(share(counts.passed)) {}
            span.failed style=(share(counts.failed)) {}
            span.skipped style=(share(counts.skipped)) {}
        }
    }
}

fn failures(reports: &[Report]) -> Markup {
    let failed: Vec<_> = reports
        .iter()
        .flat_map(|report| report.cases.iter().map(move |case| (report, case)))
        .filter_map(|(report, case)| match &case.verdict {
            Verdict::Failed(failure) => Some((report, case, failure)),
            _ => None,
        })
        .collect();
    let clauses: BTreeMap<&str, Clause> = sections()
        .into_iter()
        .flat_map(|section| section.clauses)
        .map(|clause| (clause.id, clause))
        .collect();
    html! {
        @if !failed.is_empty() {
            section {
                h2 { "What failed" }
                @for (report, case, failure) in failed {
                    @let id = failure.clause.as_deref().unwrap_or(&case.clause);
                    article.failure {
                        h3 { span.mark.bad { "✗" } " " code { (case.case) } span.setup { (report.driver) " on " (report.setup) } }
                        @if let Some(clause) = clauses.get(id) { p { b { (id) } " " (prose(clause.text)) } }
                        p.quiet { (case.title) @if failure.crash { " (it crashed or hung)" } }
                        pre { (failure.message) }
                    }
                }
            }
        }
    }
}

fn matrix(reports: &[Report]) -> Markup {
    html! {
        section {
            h2 { "Clauses" }
            p.quiet {
                "✓ every case passed · ✗ how many failed · ○ nothing ran, a capability or feature is missing · "
                "a small number counts skipped cases. A clause opens to its cases."
            }
            div.scroll {
                table.matrix {
                    thead { tr {
                        th scope="col" { "clause" }
                        @for report in reports {
                            th scope="col" { (report.driver) br; span.setup { (report.setup) } }
                        }
                    } }
                    @for section in sections() {
                        tbody {
                            tr.section { th colspan=(reports.len() + 1) scope="colgroup" { (section.title) } }
                            @for clause in &section.clauses { (row(clause, reports)) }
                        }
                    }
                }
            }
        }
    }
}

fn row(clause: &Clause, reports: &[Report]) -> Markup {
    let columns: Vec<Vec<&CaseResult>> = reports
        .iter()
        .map(|report| report.cases.iter().filter(|case| case.clause == clause.id).collect())
        .collect();
    let mut names: Vec<(&str, &str)> = Vec::new();
    for case in columns.iter().flatten() {
        if !names.iter().any(|(name, _)| *name == case.case) {
            names.push((&case.case, &case.title));
        }
    }
    html! {
        tr id=(clause.id) {
            th scope="row" {
                @if names.is_empty() { b { (clause.id) } " " (prose(clause.text)) } @else {
                    details {
                        summary { b { (clause.id) } " " (prose(clause.text)) }
                        ul {
                            @for (name, title) in &names {
                                li {
                                    @for (column, report) in columns.iter().zip(reports) { (dot(column, name, report)) }
                                    " " (title)
                                }
                            }
                        }
                    }
                }
            }
            @for column in &columns { (cell(column)) }
        }
    }
}

/// How one case ended in one run.
fn dot(column: &[&CaseResult], name: &str, report: &Report) -> Markup {
    let place = format!("{} on {}", report.driver, report.setup);
    html! {
        @match column.iter().find(|case| case.case == name).map(|case| &case.verdict) {
            Some(Verdict::Passed) => span.mark.good title={ (place) ": passed" } { "✓" },
            Some(Verdict::Failed(failure)) => span.mark.bad title={ (place) ": " (failure.message) } { "✗" },
            Some(Verdict::Skipped { reason }) => span.mark.none title={ (place) ": " (reason) } { "○" },
            None => span.mark.none title={ (place) ": not run" } { "·" },
        }
    }
}

/// How the cases of one clause ended in one run.
fn cell(cases: &[&CaseResult]) -> Markup {
    let count = |wanted: fn(&Verdict) -> bool| cases.iter().filter(|case| wanted(&case.verdict)).count();
    let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
    let skipped = count(|verdict| matches!(verdict, Verdict::Skipped { .. }));
    let passed = cases.len() - failed - skipped;
    html! {
        @if failed > 0 {
            td.bad { "✗ " (failed) }
        } @else if passed > 0 {
            td.good { "✓" @if skipped > 0 { sub { (skipped) } } }
        } @else if skipped > 0 {
            td.none { "○" }
        } @else {
            td.none { "·" }
        }
    }
}

fn skips(reports: &[Report]) -> Markup {
    let mut reasons: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    for report in reports {
        for case in &report.cases {
            if let Verdict::Skipped { reason } = &case.verdict {
                let places = reasons.entry(reason).or_default();
                *places.entry(format!("{} on {}", report.driver, report.setup)).or_default() += 1;
            }
        }
    }
    html! {
        @if !reasons.is_empty() {
            section {
                h2 { "What was skipped, and why" }
                table.list {
                    @for (reason, places) in reasons {
                        tr {
                            th scope="row" { (reason) }
                            td { @for (place, count) in places { span.place { (place) ": " (count) } " " } }
                        }
                    }
                }
            }
        }
    }
}

fn claims(reports: &[Report]) -> Markup {
    let found: Vec<_> =
        reports.iter().filter_map(|report| Some((report, report.environment.as_ref()?))).collect();
    html! {
        @if !found.is_empty() {
            section {
                h2 { "What each driver claims" }
                div.scroll { table.matrix {
                    thead { tr {
                        th scope="col" { "capability" }
                        @for (report, _) in &found { th scope="col" { (report.driver) br; span.setup { (report.setup) } } }
                    } }
                    tbody { @for claim in Claim::ALL {
                        tr {
                            th scope="row" { code { (claim.name()) } " " (claim.doc().trim()) }
                            @for (_, environment) in &found {
                                @if environment.claims.contains(claim) { td.good { "✓" } } @else { td.none { "–" } }
                            }
                        }
                    } }
                } }
            }
        }
    }
}

/// The contract's text: its only markup is `code`.
fn prose(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}
