//! The picture for the README: one bar for each program that imports the image.

use std::fmt::Write as _;

use super::measure::Measured;
use super::report::{of, time};

const WIDTH: f64 = 760.0;
const LABEL: f64 = 250.0;
const BAR: f64 = 18.0;
const STEP: f64 = 26.0;

/// Draws the group of gzip imports, the fastest first, as SVG that reads on light and on dark pages.
pub(super) fn draw(results: &[Measured<'_>]) -> String {
    let mut bars: Vec<(&str, f64)> = results
        .iter()
        .filter(|result| result.case.group == "import gzip" && !result.runs.is_empty())
        .map(|result| (result.case.name.as_str(), of(result, |run| run.wall)))
        .collect();
    bars.sort_by(|one, other| one.1.total_cmp(&other.1));
    let longest = bars.iter().map(|bar| bar.1).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let height = 34.0 + STEP * bars.len() as f64 + 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <title>Seconds to import the image, gzip layers; shorter is better</title>\n\
         <style>text {{ fill: #57606a }} .ours {{ fill: #1a7f37 }} .peer {{ fill: #afb8c1 }} \
         @media (prefers-color-scheme: dark) {{ text {{ fill: #b1bac4 }} .ours {{ fill: #3fb950 }} \
         .peer {{ fill: #484f58 }} }}</style>\n\
         <text x=\"0\" y=\"16\" font-weight=\"600\">Seconds to import the image, gzip layers (shorter is better)</text>\n"
    );
    for (row, (name, seconds)) in bars.iter().enumerate() {
        let y = 34.0 + STEP * row as f64;
        let width = (seconds / longest * (WIDTH - LABEL - 70.0)).max(2.0);
        let class = if name.starts_with("layerstore") { "ours" } else { "peer" };
        // Into a string, writing cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{LABEL:.0}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR:.0}\" rx=\"3\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LABEL - 8.0,
            y + 13.5,
            name.replace('&', "&amp;").replace('<', "&lt;"),
            LABEL + width + 6.0,
            y + 13.5,
            time(*seconds),
        );
    }
    svg.push_str("</svg>\n");
    svg
}
