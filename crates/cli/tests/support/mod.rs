//! A store of its own for each test, and the `layerstore` program to work on it.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests look at disks directly")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A store in a temporary directory; what is mounted is unmounted at the end.
pub(crate) struct Bench {
    directory: TempDir,
    driver: String,
}

impl Bench {
    /// An empty store with this driver.
    pub(crate) fn new(driver: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("layerstore-cli-").tempdir().unwrap();
        Self { directory, driver: driver.to_owned() }
    }

    /// A path in the test's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program, ready to be given arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_layerstore"));
        command
            .env("LAYERSTORE_ROOT", self.path("root"))
            .env("LAYERSTORE_RUNROOT", self.path("run"))
            .env("LAYERSTORE_CONFIG", "/dev/null")
            .env("LAYERSTORE_DRIVER", &self.driver)
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// The same with signals as they are by default: where the tests run in the background or under `nohup` some are
    /// ignored, and what is ignored stays so.
    pub(crate) fn interruptible(&self) -> Command {
        let program = self.command();
        let mut command = Command::new("env");
        command
            .arg("--default-signal=INT,TERM,HUP")
            .arg(program.get_program())
            .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// The program at a place that every user reaches, who reaches the test's directory: where it was built is often in
    /// somebody's home, which is closed to all others, root of a user namespace among them.
    pub(crate) fn program(&self) -> PathBuf {
        let program = self.path("layerstore");
        // By another process: what this one has open for writing, a child of another thread may hold at the moment, and
        // then the program cannot be run.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_layerstore")).arg(&program).status().unwrap();
        assert!(copied.success());
        program
    }

    /// Runs the program.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// Runs the program, which has to succeed, and returns what it printed, without the last newline.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }

    /// Runs the program, which has to fail with this exit code, and returns what it said on stderr.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        stderr
    }

    /// A directory with a few files, and what `rootfs:` calls it.
    pub(crate) fn rootfs(&self) -> String {
        let root = self.path("rootfs");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        std::fs::write(root.join("etc/motd"), "welcome\n").unwrap();
        std::fs::create_dir_all(root.join("var/log")).unwrap();
        std::os::unix::fs::symlink("var/log", root.join("log")).unwrap();
        format!("rootfs:{}", root.display())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The directory could not be removed below a mount; a test that failed in the middle leaves one.
        let mounts =
            String::from_utf8_lossy(&std::fs::read("/proc/self/mounts").unwrap_or_default()).into_owned();
        for line in mounts.lines().rev() {
            let Some(target) = line.split(' ').nth(1) else { continue };
            if Path::new(target).starts_with(self.directory.path()) {
                let _ = Command::new("umount").args(["-l", target]).status();
            }
        }
    }
}

/// The drivers that the tests run on.
pub(crate) const DRIVERS: [&str; 2] = ["overlay2", "vfs"];
