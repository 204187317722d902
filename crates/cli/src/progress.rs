//! A progress line for each layer, as docker's users know them, on a terminal only.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use layerstore::{LayerProgress, LayerStage, Watcher};

use crate::output::short;

/// A watcher that draws on stderr, or one that does nothing with `-q` or without a terminal.
pub(crate) fn watcher(quiet: bool) -> Watcher {
    if quiet || !std::io::stderr().is_terminal() {
        return Watcher::default();
    }
    let lines = Arc::new(Mutex::new(Lines::default()));
    Watcher::new(move |progress| {
        // A poisoned lock means that drawing panicked once; the lines are still good enough to draw on.
        lines.lock().unwrap_or_else(PoisonError::into_inner).draw(progress);
    })
}

#[derive(Default)]
struct Lines {
    all: MultiProgress,
    bars: BTreeMap<usize, ProgressBar>,
}

impl Lines {
    fn draw(&mut self, progress: &LayerProgress) {
        let bar = self.bars.entry(progress.index).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new(progress.total.unwrap_or(0)));
            bar.set_prefix(short(progress.diff_id));
            bar
        });
        if let Some(total) = progress.total {
            bar.set_length(total);
        }
        bar.set_position(progress.bytes);
        let moving = "{prefix}: {msg} [{bar:30}] {bytes}/{total_bytes}";
        let (template, message, ended) = match progress.stage {
            LayerStage::Waiting => ("{prefix}: {msg}", "Waiting", false),
            LayerStage::Moving => (moving, "Extracting", false),
            LayerStage::Done => ("{prefix}: {msg}", "Complete", true),
            LayerStage::Exists => ("{prefix}: {msg}", "Already exists", true),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        if ended {
            bar.finish_with_message(message);
        } else {
            bar.set_message(message);
        }
    }
}
