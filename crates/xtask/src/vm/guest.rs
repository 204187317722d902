//! What happens in the machine: the script that runs as its first process, and the disks that it finds.
//!
//! ```text
//! @begin NAME        a run begins
//! …                  the report of the suite as JSON, or what a test program prints
//! @end NAME STATUS   it ended; `unmountable` where the file system could not be mounted
//! @done              that was all
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;

use super::boot::DONE;
use super::{Outcome, output};

/// The test program that is run in the machine, on every file system with limits.
pub(super) const TEST: &str = "project_quota";

/// Size of each disk; they are sparse.
const SIZE: u64 = 3 << 30;

/// One file system, and what has to be true of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) name: &'static str,
    /// What the suite calls it.
    pub(super) file_system: &'static str,
    kind: &'static str,
    options: &'static str,
    disk: char,
    /// Whether the size of layers can be limited there.
    pub(super) limits: bool,
}

const fn run(
    name: &'static str,
    file_system: &'static str,
    kind: &'static str,
    options: &'static str,
    disk: char,
    limits: bool,
) -> Run {
    Run { name, file_system, kind, options, disk, limits }
}

/// All runs.
pub(super) const RUNS: [Run; 5] = [
    run("xfs+prjquota", "xfs+prjquota", "xfs", "prjquota", 'a', true),
    run("ext4+prjquota", "ext4+prjquota", "ext4", "prjquota", 'b', true),
    run("xfs", "xfs", "xfs", "noquota", 'a', false),
    run("ext4", "ext4", "ext4", "rw", 'b', false),
    run("ext4-plain", "ext4", "ext4", "rw", 'c', false),
];

/// What the machine is to do.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) runs: Vec<Run>,
    pub(super) drivers: Vec<String>,
    pub(super) case: String,
    pub(super) modules: Vec<String>,
}

impl Job {
    /// The name under which the test program of a run reports.
    pub(super) fn test_of(run: &Run) -> String {
        format!("{TEST} on {}", run.name)
    }

    /// The script.
    pub(super) fn script(&self) -> String {
        let mut script = PREPARE.to_owned();
        for module in &self.modules {
            script += &format!("insmod {}\n", quoted(&format!("/modules/{module}")));
        }
        let drivers: String =
            self.drivers.iter().map(|driver| format!(" --driver {}", quoted(driver))).collect();
        let suite = format!(
            "layerstore --format json{drivers} conformance --case {} --scratch /mnt --time-limit {TIME_LIMIT}",
            quoted(&self.case)
        );
        for run in &self.runs {
            let mut programs = vec![(run.name.to_owned(), suite.clone())];
            if run.limits {
                programs.push((Self::test_of(run), format!("{TEST} --test-threads 1 --nocapture")));
            }
            for (name, program) in programs {
                let mount = format!("mount -t {} -o {} /dev/vd{} /mnt", run.kind, run.options, run.disk);
                let name = quoted(&name);
                script += &format!(
                    "say \"@begin \"{name}\nif {mount}; then\n  {program} >&3 2>&1\n  status=$?\n  umount /mnt || status=busy\nelse\n  status=unmountable\nfi\n\
                     say \"@end \"{name}\" $status\"\n"
                );
            }
        }
        script += &format!("say {DONE}\nreboot -f\n");
        script
    }
}

/// How long one case may take, in seconds: the machine's processor is emulated.
const TIME_LIMIT: u32 = 900;

/// The first lines of the script: busybox under all its names, the usual file systems, the serial line.
const PREPARE: &str = "\
#!/bin/busybox sh
/bin/busybox mkdir -p /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm
for place in /tmp /run /dev/shm; do mount -t tmpfs tmpfs $place; done
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root LAYERSTORE_TEST_PROJECTS=/mnt RUST_BACKTRACE=0
stty -F /dev/ttyS1 raw
exec 3>/dev/ttyS1
say() { echo \"$*\" >&3; }
";

/// A word of a shell script.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Makes the disks: xfs, ext4 with the features that project quotas need, and ext4 as it is made by default.
pub(super) fn make_disks(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let disks: [(&str, &[&str]); 3] = [
        ("mkfs.xfs", &["-q", "-f", "-m", "reflink=1"]),
        ("mkfs.ext4", &["-q", "-F", "-O", "project,quota", "-E", "quotatype=prjquota"]),
        ("mkfs.ext4", &["-q", "-F"]),
    ];
    let mut paths = Vec::new();
    for (number, (program, options)) in disks.into_iter().enumerate() {
        let path = folder.join(format!("disk-{number}"));
        let made = std::fs::File::create(&path).and_then(|file| file.set_len(SIZE));
        made.map_err(|error| format!("{}: {error}", path.display()))?;
        output(Command::new(program).args(options).arg(&path))?;
        paths.push(path);
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_one_that_a_shell_takes() {
        let job = Job {
            runs: RUNS.into(),
            drivers: vec!["one".to_owned(), "it's".to_owned()],
            case: "*'*".to_owned(),
            modules: vec!["a.ko".to_owned()],
        };
        let script = job.script();
        let checked = Command::new("sh").args(["-n", "-c", &script]).output().unwrap();
        assert!(checked.status.success(), "{script}\n{}", String::from_utf8_lossy(&checked.stderr));
        assert_eq!(script.matches("@begin").count(), RUNS.len() + 2);
    }
}
