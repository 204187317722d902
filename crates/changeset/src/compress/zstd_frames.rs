//! zstd: frames and skippable frames one after the other, with one context for all (some layers have a frame for
//! each file).

use std::io::{self, BufRead, Read};

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use super::decode::{damaged, trailing};
use crate::error::{Code, Error, Result};

/// Reads frames from a stream.
pub(super) struct ZstdFrames<R: BufRead> {
    stream: R,
    context: DCtx<'static>,
    /// Whether a frame is complete, so that the stream may end.
    complete: bool,
    /// Bytes taken since then.
    taken: u64,
    failed: bool,
    /// The largest window, as a power of two.
    window_log: u32,
}

/// Bytes of a frame's magic number: what is shorter is no frame.
const MAGIC: u64 = 4;

impl<R: BufRead> ZstdFrames<R> {
    pub(super) fn new(stream: R, window_log: u32) -> Result<Self> {
        let mut context = DCtx::try_create()
            .ok_or_else(|| Error::refused(Code::LimitExceeded, "layer", "no memory for a zstd context"))?;
        context.set_parameter(DParameter::WindowLogMax(window_log)).map_err(|code| {
            Error::refused(
                Code::LimitExceeded,
                "layer",
                format!("zstd window log {window_log}: {}", get_error_name(code)),
            )
        })?;
        Ok(Self { stream, context, complete: false, taken: 0, failed: false, window_log })
    }

    pub(super) fn into_inner(self) -> R {
        self.stream
    }

    fn fail(&mut self, code: usize) -> io::Error {
        self.failed = true;
        // The library has no codes in its public interface, only these texts; a test holds each.
        match get_error_name(code) {
            "Unknown frame descriptor" if self.complete => trailing("zstd"),
            "Frame requires too much memory for decoding" => {
                let largest = (1_u64 << self.window_log.min(63)) >> 20;
                let reason = format!("a zstd frame wants a window of more than {largest} MiB in memory");
                Error::refused(Code::LimitExceeded, "layer", reason).into_io()
            }
            "Allocation error : not enough memory" => {
                Error::refused(Code::LimitExceeded, "layer", "no memory for a zstd frame's window").into_io()
            }
            name => damaged("zstd", &io::Error::other(name)),
        }
    }

    /// The stream ended where the decoder wants more.
    fn ended_early(&mut self) -> io::Error {
        self.failed = true;
        if self.complete && self.taken < MAGIC {
            trailing("zstd")
        } else {
            damaged("zstd", &io::ErrorKind::UnexpectedEof.into())
        }
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::Error::other("read after an error"));
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let bytes = match self.stream.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            let ended = bytes.is_empty();
            if ended && self.complete && self.taken == 0 {
                return Ok(0);
            }
            let mut input = InBuffer::around(bytes);
            let mut output = OutBuffer::around(&mut *buffer);
            let done = self.context.decompress_stream(&mut output, &mut input);
            let (taken, given) = (input.pos(), output.pos());
            self.stream.consume(taken);
            self.taken += taken as u64;
            match done {
                Err(code) => return Err(self.fail(code)),
                // The context is ready for the next frame by itself.
                Ok(0) => (self.complete, self.taken) = (true, 0),
                Ok(_) => {}
            }
            if given > 0 {
                return Ok(given);
            }
            if ended && (self.taken > 0 || !self.complete) {
                return Err(self.ended_early());
            }
        }
    }
}
