//! Pipes, and the stream that a program writes its result to.

use std::os::fd::{AsFd, BorrowedFd};

use crate::error::{Result, call};
use crate::file::File;

/// Bytes that a pipe takes before its writer has to wait: what an ordinary user may ask for (pipe(7),
/// `/proc/sys/fs/pipe-max-size`). The usual 64 KiB wake both sides for every few files of an archive.
const PIPE: usize = 1 << 20;

/// Standard output without a buffer of its own, for those who write large pieces. A pipe is made larger where that
/// may be.
///
/// # Errors
/// `EMFILE`.
pub fn stdout() -> Result<File> {
    let stdout = std::io::stdout();
    let fd = call("fcntl", || "stdout".to_owned(), || rustix::io::fcntl_dupfd_cloexec(&stdout, 3))?;
    enlarge(fd.as_fd());
    Ok(File::from_fd(fd, "stdout"))
}

/// Makes a pipe hold more; what is none, or may not, stays as it is.
pub fn enlarge(fd: BorrowedFd<'_>) {
    // Only faster.
    let _ = call("fcntl", || "pipe".to_owned(), || rustix::pipe::fcntl_setpipe_size(fd, PIPE));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_takes_more_and_a_file_stays_a_file() {
        let (_reader, writer) = std::io::pipe().unwrap();
        enlarge(writer.as_fd());
        assert_eq!(rustix::pipe::fcntl_getpipe_size(&writer).unwrap(), PIPE);
        enlarge(tempfile::tempfile().unwrap().as_fd());
    }
}
