//! containerd and dockerd with everything of theirs in a temporary directory.
//!
//! Invariant: a daemon ends with its value, also when a test fails, and leaves neither mounts nor files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::peers::peer;

/// How long a daemon may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that serves a socket below a directory of its own.
struct Daemon {
    child: Child,
    folder: PathBuf,
}

impl Daemon {
    /// Starts a program and waits until `ready` succeeds.
    #[track_caller]
    fn start(mut command: Command, folder: &Path, ready: impl Fn() -> Command) -> Self {
        let log = fs::File::create(folder.join("log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut daemon = Self { child: command.spawn().unwrap(), folder: folder.to_owned() };
        let start = Instant::now();
        while !ready().stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success() {
            let ended = daemon.child.try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < PATIENCE,
                "{command:?} is not ready ({ended:?}):\n{}",
                fs::read_to_string(folder.join("log")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > PATIENCE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // dockerd mounts its root on itself and leaves that when it could not start completely.
        for target in mounts_below(&self.folder) {
            let _ = Command::new("umount").args(["-l", &target]).status();
        }
    }
}

/// What is mounted below a directory, innermost first.
pub(crate) fn mounts_below(folder: &Path) -> Vec<String> {
    let mounts = String::from_utf8_lossy(&fs::read("/proc/self/mounts").unwrap_or_default()).into_owned();
    let targets = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1));
    targets.filter(|target| Path::new(target).starts_with(folder)).map(str::to_owned).collect()
}

/// A containerd of the test's own.
pub(crate) struct Containerd {
    // Dropped in this order: the daemon ends before its directory goes.
    _daemon: Daemon,
    folder: tempfile::TempDir,
}

impl Containerd {
    /// Starts it.
    #[track_caller]
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("layerstore-containerd-").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        // The CRI plugin would want a network.
        let config = format!(
            "version = 2\nroot = '{}'\nstate = '{}'\ndisabled_plugins = ['io.containerd.grpc.v1.cri']\n\
             [grpc]\naddress = '{}'\n",
            at("root"),
            at("state"),
            at("socket"),
        );
        fs::write(at("config.toml"), config).unwrap();
        let mut command = peer("containerd");
        command.arg("--config").arg(at("config.toml"));
        let daemon = Daemon::start(command, folder.path(), || client(folder.path(), &["version"]));
        Self { _daemon: daemon, folder }
    }

    /// Its client.
    pub(crate) fn client(&self, arguments: &[&str]) -> Command {
        client(self.folder.path(), arguments)
    }

    /// Ends it, and fails where it leaves mounts.
    #[track_caller]
    pub(crate) fn stop(self) {
        let Self { _daemon: daemon, folder } = self;
        drop(daemon);
        assert_eq!(mounts_below(folder.path()), Vec::<String>::new());
    }

    /// Where it listens.
    fn address(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

fn client(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = peer("ctr");
    command.arg("--address").arg(folder.join("socket")).args(["--namespace", "test"]).args(arguments);
    command
}

/// A dockerd of the test's own, with a containerd of its own and without a network.
pub(crate) struct Dockerd {
    daemon: Daemon,
    containerd: Containerd,
    folder: tempfile::TempDir,
}

impl Dockerd {
    /// Starts it.
    #[track_caller]
    pub(crate) fn start() -> Self {
        let containerd = Containerd::start();
        let folder = tempfile::Builder::new().prefix("layerstore-dockerd-").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("daemon.json"), "{}").unwrap();
        let mut command = peer("dockerd");
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"]);
        command.arg("--config-file").arg(at("daemon.json"));
        command.arg("--data-root").arg(at("root")).arg("--exec-root").arg(at("exec"));
        command.arg("--pidfile").arg(at("pid")).arg("--containerd").arg(containerd.address());
        command.arg("--host").arg(format!("unix://{}", at("socket").display()));
        let daemon = Daemon::start(command, folder.path(), || docker(folder.path(), &["version"]));
        Self { daemon, containerd, folder }
    }

    /// Its client.
    pub(crate) fn client(&self, arguments: &[&str]) -> Command {
        docker(self.folder.path(), arguments)
    }

    /// Ends it, and fails where it leaves mounts.
    #[track_caller]
    pub(crate) fn stop(self) {
        let Self { daemon, containerd, folder } = self;
        drop(daemon);
        containerd.stop();
        assert_eq!(mounts_below(folder.path()), Vec::<String>::new());
    }
}

fn docker(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = peer("docker");
    command.arg("--config").arg(folder.join("client"));
    command.arg("--host").arg(format!("unix://{}", folder.join("socket").display())).args(arguments);
    command
}
