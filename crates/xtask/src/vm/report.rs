//! Prints what the guest said, and judges it.

use serde::Deserialize;

use super::Outcome;
use super::guest::{Job, Run};

/// The suite's report (`layerstore --format json conformance`), as far as it is looked at.
#[derive(Debug, Deserialize)]
struct Suite {
    runs: Vec<OfDriver>,
}

#[derive(Debug, Deserialize)]
struct OfDriver {
    driver: String,
    environment: Environment,
    cases: Vec<Case>,
    #[serde(default)]
    problems: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Environment {
    claims: Vec<String>,
    file_system: String,
    kernel: String,
}

#[derive(Debug, Deserialize)]
struct Case {
    case: String,
    result: String,
    /// Why it was skipped, or failed.
    #[serde(default, alias = "message")]
    reason: Option<String>,
}

/// The capability in question.
const LIMITS: &str = "size_limit";

/// Prints a report and says whether everything is as it should be.
pub(super) fn judge(job: &Job, said: &[String]) -> Outcome<bool> {
    let mut wrong = Vec::new();
    for run in &job.runs {
        let found = section(said, run.name)
            .ok_or_else(|| "no result".to_owned())
            .and_then(|(lines, status)| of_suite(job, run, &lines, status));
        match found {
            Ok(problems) => {
                wrong.extend(problems.into_iter().map(|problem| format!("{}: {problem}", run.name)))
            }
            Err(problem) => wrong.push(format!("{}: {problem}", run.name)),
        }
        if run.limits {
            let name = Job::test_of(run);
            match section(said, &name) {
                Some((lines, "0")) if ran_tests(&lines) => println!("{name}: {}", summary(&lines)),
                Some((lines, status)) => {
                    wrong.push(format!("{name}: status {status}:\n{}", lines.join("\n")))
                }
                None => wrong.push(format!("{name}: no result")),
            }
        }
    }
    for problem in &wrong {
        println!("problem: {problem}");
    }
    println!("{} runs, {} problems", job.runs.len(), wrong.len());
    Ok(wrong.is_empty() && !job.runs.is_empty())
}

/// The lines of a run, and its status.
fn section<'a>(said: &'a [String], name: &str) -> Option<(Vec<&'a str>, &'a str)> {
    let begin = said.iter().position(|line| line.strip_prefix("@begin ") == Some(name))?;
    let rest = said.get(begin + 1..)?;
    let status = |line: &'a String| line.strip_prefix("@end ")?.strip_prefix(name)?.strip_prefix(' ');
    let end = rest.iter().position(|line| status(line).is_some())?;
    Some((rest.get(..end)?.iter().map(String::as_str).collect(), status(rest.get(end)?)?))
}

/// What is wrong with a run of the suite.
fn of_suite(job: &Job, run: &Run, lines: &[&str], status: &str) -> Outcome<Vec<String>> {
    let text = lines.join("\n");
    // Warnings come before the report.
    let json = text.find("{\n").and_then(|at| text.get(at..)).unwrap_or_default();
    let suite: Suite = serde_json::from_str(json)
        .map_err(|error| format!("status {status}, no report ({error}):\n{text}"))?;
    let mut wrong = Vec::new();
    for driver in &job.drivers {
        let Some(found) = suite.runs.iter().find(|found| found.driver == *driver) else {
            wrong.push(format!("no report of the driver {driver}"));
            continue;
        };
        print(run, found);
        wrong.extend(of_driver(run, found).into_iter().map(|problem| format!("{driver}: {problem}")));
    }
    if status != "0" && wrong.is_empty() {
        wrong.push(format!("status {status}"));
    }
    Ok(wrong)
}

fn print(run: &Run, found: &OfDriver) {
    let count = |result: &str| found.cases.iter().filter(|case| case.result == result).count();
    for case in &found.cases {
        let reason = case.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        println!("{:8}{}{reason}", case.result, case.case);
    }
    println!(
        "{} on {}, Linux {}: {} passed, {} failed, {} skipped\n",
        found.driver,
        run.name,
        found.environment.kernel,
        count("passed"),
        count("failed"),
        count("skipped")
    );
}

fn of_driver(run: &Run, found: &OfDriver) -> Vec<String> {
    let mut wrong = found.problems.clone();
    if found.environment.file_system != run.file_system {
        wrong.push(format!("ran on {}, not on {}", found.environment.file_system, run.file_system));
    }
    let claims = found.environment.claims.iter().any(|claim| claim == LIMITS);
    if claims != run.limits {
        wrong.push(format!("{} {LIMITS}", if claims { "claims" } else { "does not claim" }));
    }
    if !found.cases.iter().any(|case| case.result == "passed") {
        wrong.push("no case passed".to_owned());
    }
    for case in &found.cases {
        let reason = case.reason.as_deref().unwrap_or_default();
        let must_run = run.limits && reason.contains(LIMITS) && !reason.contains("claims");
        if case.result != "passed" && (case.result != "skipped" || must_run) {
            wrong.push(format!("{} {}: {reason}", case.case, case.result));
        }
    }
    wrong
}

/// Whether a test program ran any test.
fn ran_tests(lines: &[&str]) -> bool {
    summary(lines).strip_prefix("test result: ok. ").is_some_and(|rest| !rest.starts_with("0 passed"))
}

fn summary<'a>(lines: &[&'a str]) -> &'a str {
    lines.iter().rev().find(|line| line.starts_with("test result: ")).copied().unwrap_or("no result")
}

#[cfg(test)]
mod tests {
    use super::super::guest::RUNS;
    use super::*;

    fn report(run: &Run, driver: &str, cases: &[(&str, &str)], claims: &[&str]) -> Vec<String> {
        let cases: Vec<_> = cases
            .iter()
            .map(|(result, reason)| serde_json::json!({"case": "l21::x", "result": result, "reason": reason}))
            .collect();
        let environment =
            serde_json::json!({"claims": claims, "file_system": run.file_system, "kernel": "6.1"});
        let text = serde_json::to_string_pretty(&serde_json::json!({
            "runs": [{"driver": driver, "environment": environment, "cases": cases}]
        }));
        let mut said = vec![format!("@begin {}", run.name), "warning: something".to_owned()];
        said.extend(text.unwrap().lines().map(str::to_owned));
        said.push(format!("@end {} 0", run.name));
        for line in
            [format!("@begin {}", Job::test_of(run)), "test result: ok. 3 passed; 0 failed".to_owned()]
        {
            said.push(line);
        }
        said.push(format!("@end {} 0", Job::test_of(run)));
        said
    }

    #[rstest::rstest]
    #[case::good(&[("passed", "")], &["size_limit"], true)]
    #[case::needs_the_opposite(&[("passed", ""), ("skipped", "the driver claims size_limit")], &["size_limit"], true)]
    #[case::failed(&[("passed", ""), ("failed", "why")], &["size_limit"], false)]
    #[case::skipped(&[("passed", ""), ("skipped", "the driver does not claim size_limit")], &["size_limit"], false)]
    #[case::not_claimed(&[("passed", "")], &[], false)]
    #[case::nothing(&[], &["size_limit"], false)]
    fn a_run_with_limits(#[case] cases: &[(&str, &str)], #[case] claims: &[&str], #[case] good: bool) {
        let job = Job {
            runs: vec![RUNS[0]],
            drivers: vec!["vfs".to_owned()],
            case: String::new(),
            modules: Vec::new(),
        };
        assert_eq!(judge(&job, &report(&RUNS[0], "vfs", cases, claims)), Ok(good));
        assert_eq!(
            judge(&job, &report(&RUNS[0], "other", cases, claims)),
            Ok(false),
            "another driver's report"
        );
        assert_eq!(judge(&job, &report(&RUNS[1], "vfs", cases, claims)), Ok(false), "another run's report");
        let mut cut = report(&RUNS[0], "vfs", cases, claims);
        cut.truncate(5);
        assert_eq!(judge(&job, &cut), Ok(false), "half a report");
        let none = report(&RUNS[0], "vfs", cases, claims);
        let none: Vec<_> = none.into_iter().map(|line| line.replace("3 passed", "0 passed")).collect();
        assert_eq!(judge(&job, &none), Ok(false), "a test program that ran nothing");
    }
}
