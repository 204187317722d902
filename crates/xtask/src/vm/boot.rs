//! Boots the machine and listens to it.
//!
//! The first serial line is the kernel's console, which is kept in a file for who wonders; what the guest has to say
//! comes on the second one.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::Outcome;

/// The line with which the guest ends.
pub(super) const DONE: &str = "@done";

/// What to boot.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a Path,
    pub(super) disks: &'a [PathBuf],
    pub(super) console: &'a Path,
    pub(super) memory: u32,
}

impl Machine<'_> {
    /// Boots it and waits for its end; gives the lines that the guest said.
    pub(super) fn boot(&self, limit: Duration) -> Outcome<Vec<String>> {
        let begun = Instant::now();
        let mut command = Command::new("qemu-system-x86_64");
        // Not by kvm, although that is faster: the machine at hand may be a virtual one itself, and few of these run
        // another one well.
        command.args(["-accel", "tcg", "-cpu", "max,cx16=off", "-smp", "2"]);
        command.args(["-m", &format!("{}M", self.memory)]);
        command.args(["-display", "none", "-monitor", "none", "-no-reboot", "-nodefaults"]);
        command.arg("-serial").arg(joined("file:", self.console));
        command.args(["-serial", "stdio", "-device", "virtio-rng-pci"]);
        command.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initramfs);
        command.args(["-append", "console=ttyS0 panic=-1 quiet"]);
        for disk in self.disks {
            command.arg("-drive").arg(joined("if=virtio,format=raw,cache=unsafe,file=", disk));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let hint = "install it with `tools/setup vm`";
        let mut qemu = command.spawn().map_err(|error| format!("qemu-system-x86_64: {error}; {hint}"))?;
        let output = qemu.stdout.take().ok_or("qemu has no output")?;
        let (sender, receiver) = channel();
        // It ends with the pipe, and that with qemu.
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut said = Vec::new();
        let ended = loop {
            match receiver.recv_timeout(limit.saturating_sub(begun.elapsed())) {
                Ok(line) => {
                    if let Some(step) = line.strip_prefix("@begin ") {
                        eprintln!("vm: {step} (after {} s)", begun.elapsed().as_secs());
                    }
                    said.push(line);
                }
                Err(RecvTimeoutError::Disconnected) => break true,
                Err(RecvTimeoutError::Timeout) => break false,
            }
        };
        // One that has ended cannot be killed, which is fine.
        let _ = qemu.kill();
        let _ = qemu.wait();
        let console = self.console.display();
        match (ended, said.iter().any(|line| line == DONE)) {
            (true, true) => Ok(said),
            (true, false) => {
                Err(format!("the machine ended too early, see {console}; it said:\n{}", said.join("\n")))
            }
            (false, _) => Err(format!(
                "the machine did not end in {} s, see {console}; it said:\n{}",
                limit.as_secs(),
                said.join("\n")
            )),
        }
    }
}

/// A path within an option, where a comma is written twice.
fn joined(before: &str, path: &Path) -> OsString {
    let path = path.to_string_lossy().replace(',', ",,");
    format!("{before}{path}").into()
}
