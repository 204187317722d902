//! What a run found, and how it is said: text, JSON, JUnit, one HTML page.

use std::fmt::Write as _;
use std::time::Duration;

use crate::case::Failure;
use crate::need::Environment;

mod html;

pub use html::html;

/// What became of one case.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "result", rename_all = "lowercase")]
pub enum Verdict {
    /// The driver keeps the clause.
    Passed,
    /// It does not.
    Failed(Failure),
    /// The case did not run.
    Skipped {
        /// Which capability, privilege or kernel feature is missing.
        reason: String,
    },
}

/// One case of a run.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct CaseResult {
    /// The case's full name.
    pub case: String,
    /// Its clause.
    pub clause: String,
    /// What it asserts.
    pub title: String,
    /// What became of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How long it took.
    #[serde(rename = "seconds", serialize_with = "seconds", deserialize_with = "duration")]
    pub duration: Duration,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = <f64 as serde::Deserialize>::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
}

/// One run of the suite over one driver.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// The driver.
    pub driver: String,
    /// Where it ran, as pinned files call it: `ext4`, `tmpfs+userns` …
    pub setup: String,
    /// What was found there; none when no worker could be started.
    pub environment: Option<Environment>,
    /// Every case of the run, in order.
    pub cases: Vec<CaseResult>,
    /// What makes the run a failure besides failed cases: nothing ran, a required driver was skipped, claims or
    /// gaps differ from what is pinned.
    pub problems: Vec<String>,
}

/// How many cases ended how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Counts {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Skipped.
    pub skipped: usize,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Report {
    /// How many cases ended how.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for case in &self.cases {
            match case.verdict {
                Verdict::Passed => counts.passed += 1,
                Verdict::Failed(_) => counts.failed += 1,
                Verdict::Skipped { .. } => counts.skipped += 1,
            }
        }
        counts
    }

    /// Whether the run is a success: no case failed, something ran, and nothing else is wrong.
    pub fn is_success(&self) -> bool {
        self.counts().failed == 0 && self.problems.is_empty()
    }

    /// The line about one case, and what follows it when it failed.
    pub fn line(result: &CaseResult) -> String {
        match &result.verdict {
            Verdict::Passed => format!("ok    {} ({:.2?})\n", result.case, result.duration),
            Verdict::Skipped { reason } => format!("skip  {}: {reason}\n", result.case),
            Verdict::Failed(failure) => {
                let clause = failure.clause.as_deref().unwrap_or(&result.clause);
                let crash = if failure.crash { ", crashed" } else { "" };
                let message = failure.message.replace('\n', "\n      ");
                format!("FAIL  {} ({clause}{crash}): {}\n      {message}\n", result.case, result.title)
            }
        }
    }

    /// The end of the text: what is wrong with the run, and the counts as its last line.
    pub fn closing(&self) -> String {
        let mut text = String::new();
        for problem in &self.problems {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "problem: {problem}");
        }
        let _ = writeln!(text, "{}", self.counts());
        text
    }
}

/// Several runs as a person reads them, ending with the counts of all.
pub fn text(reports: &[Report]) -> String {
    let mut text = String::new();
    let mut total = Counts::default();
    for report in reports {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "driver {} on {}", report.driver, report.setup);
        for case in &report.cases {
            text.push_str(&Report::line(case));
        }
        for problem in &report.problems {
            let _ = writeln!(text, "problem: {problem}");
        }
        total += report.counts();
    }
    let _ = writeln!(text, "{total}");
    text
}

/// Several runs as JSON with stable keys.
///
/// # Errors
/// None in practice: every key is a string.
pub fn json(reports: &[Report]) -> Result<String, serde_json::Error> {
    let mut total = Counts::default();
    for report in reports {
        total += report.counts();
    }
    let success = reports.iter().all(Report::is_success) && total.passed > 0;
    serde_json::to_string_pretty(&serde_json::json!({
        "success": success,
        "counts": total,
        "runs": reports,
    }))
}

/// Reads runs back from [`json`], to put those of several programs into one report.
///
/// # Errors
/// What is no such report.
pub fn parse(json: &str) -> Result<Vec<Report>, serde_json::Error> {
    #[derive(serde::Deserialize)]
    struct Document {
        runs: Vec<Report>,
    }
    Ok(serde_json::from_str::<Document>(json)?.runs)
}

/// Several runs as JUnit XML: a suite for each run, the clause as class name. Problems of a run are a failed case
/// of their own, so that no reader of the file misses them.
///
/// # Errors
/// None in practice: it is written to memory.
pub fn junit(reports: &[Report]) -> Result<String, quick_junit::SerializeError> {
    use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
    let mut document = quick_junit::Report::new("layerstore-conformance");
    for report in reports {
        let mut suite = TestSuite::new(format!("{} on {}", report.driver, report.setup));
        for result in &report.cases {
            let status = match &result.verdict {
                Verdict::Passed => TestCaseStatus::success(),
                Verdict::Skipped { reason } => {
                    let mut status = TestCaseStatus::skipped();
                    status.set_message(reason.as_str());
                    status
                }
                Verdict::Failed(failure) => {
                    let kind = if failure.crash { NonSuccessKind::Error } else { NonSuccessKind::Failure };
                    let mut status = TestCaseStatus::non_success(kind);
                    status.set_type(failure.clause.as_deref().unwrap_or(&result.clause));
                    status.set_message(failure.message.lines().next().unwrap_or_default());
                    status.set_description(failure.message.as_str());
                    status
                }
            };
            let mut case = TestCase::new(result.case.as_str(), status);
            case.set_classname(result.clause.as_str()).set_time(result.duration);
            suite.add_test_case(case);
        }
        for problem in &report.problems {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(problem.as_str());
            suite.add_test_case(TestCase::new("run", status));
        }
        document.add_test_suite(suite);
    }
    document.to_string()
}
