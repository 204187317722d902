//! What is reported: medians, and how each compares with layerstore's default in its group.

use std::path::Path;

use serde_json::{Value, json};

use super::measure::{Measured, Run};

/// The middle of some numbers, or the mean of the two middle ones.
pub(super) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match (numbers.get(middle), numbers.get(middle.wrapping_sub(1))) {
        (Some(upper), Some(lower)) if numbers.len().is_multiple_of(2) => (upper + lower) / 2.0,
        (Some(one), _) => *one,
        (None, _) => f64::NAN,
    }
}

pub(super) fn of(result: &Measured<'_>, part: impl Fn(&Run) -> f64) -> f64 {
    median(result.runs.iter().map(part).collect())
}

/// What a group is compared with: the first case in it, which is ours.
fn reference(results: &[Measured<'_>], group: &str) -> f64 {
    results
        .iter()
        .find(|result| result.case.group == group && !result.runs.is_empty())
        .map_or(f64::NAN, |result| of(result, |run| run.wall))
}

/// A time for a person, with its unit.
pub(super) fn time(seconds: f64) -> String {
    if seconds >= 1.0 { format!("{seconds:.2} s") } else { format!("{:.1} ms", seconds * 1e3) }
}

/// Prints the table.
pub(super) fn table(results: &[Measured<'_>]) {
    let mut group = "";
    for result in results {
        if result.case.group != group {
            group = result.case.group;
            println!(
                "\n{group:44} {:>10} {:>7} {:>8} {:>8} {:>9}",
                "median", "times", "user", "system", "peak"
            );
        }
        if let Some(message) = &result.failed {
            let line = message.lines().next_back().unwrap_or_default();
            println!("  {:42} failed: {:.120}", result.case.name, line);
            continue;
        }
        println!(
            "  {:42} {:>10} {:>7.2} {:>8} {:>8} {:>5.0} MiB",
            result.case.name,
            time(of(result, |run| run.wall)),
            of(result, |run| run.wall) / reference(results, group),
            time(of(result, |run| run.user)),
            time(of(result, |run| run.system)),
            of(result, |run| run.peak_kib as f64) / 1024.0,
        );
    }
    println!("\n`times` compares with the first line of each group: what is slower has more than 1.");
}

/// Everything, for other programs. Times are seconds, memory KiB.
pub(super) fn json(results: &[Measured<'_>], image: &Path) -> String {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let model = text("/proc/cpuinfo").lines().find_map(|line| {
        line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned())
    });
    let list: Vec<Value> = results
        .iter()
        .map(|result| {
            json!({
                "group": result.case.group,
                "name": result.case.name,
                "command": result.case.timed,
                "median": of(result, |run| run.wall),
                "times": of(result, |run| run.wall) / reference(results, result.case.group),
                "runs": result.runs,
                "failed": result.failed,
            })
        })
        .collect();
    let report = json!({
        "kernel": text("/proc/sys/kernel/osrelease"),
        "processor": model,
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "image": image.file_name().map(|name| name.to_string_lossy()),
        "results": list,
    });
    format!("{report:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::odd(&[3.0, 1.0, 2.0], 2.0)]
    #[case::even(&[4.0, 1.0, 2.0, 3.0], 2.5)]
    #[case::one(&[7.0], 7.0)]
    fn the_median_is_the_middle(#[case] numbers: &[f64], #[case] expected: f64) {
        assert!((median(numbers.to_vec()) - expected).abs() < 1e-9);
    }
}
