//! A pool of threads that does jobs in any order while one thread hands them out.
//!
//! Invariant: the jobs that wait hold a bounded number of bytes, whatever the jobs are, and an error ends everything:
//! later jobs are dropped, and whoever hands out or waits next is told the one of the job that was handed out first,
//! so that the same jobs fail alike with any number of threads.
//!
//! Threads are woken for a handful of jobs, not for each, because a switch costs as much as a small file: a thread
//! that is idle is called when [`WAKE_JOBS`] or [`WAKE_BYTES`] wait or when nobody hands out more, and who waits for
//! room is called when half of it is free.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// Most jobs that wait.
const MAX_JOBS: usize = 512;
/// Most bytes that jobs hold while they wait.
const MAX_BYTES: usize = 16 << 20;
/// Jobs that wait before an idle thread is woken for them.
const WAKE_JOBS: usize = 32;
/// Bytes of them.
const WAKE_BYTES: usize = 512 << 10;

/// Where jobs are handed out.
pub(crate) struct Pool<'a, J> {
    state: Mutex<State<J>>,
    /// A job came, or no more will.
    work: Condvar,
    /// A job is done.
    done: Condvar,
    run: &'a (dyn Fn(J) -> Result<()> + Sync),
    workers: usize,
}

struct State<J> {
    queue: VecDeque<(J, usize)>,
    bytes: usize,
    running: usize,
    /// Jobs that were begun.
    begun: u64,
    /// Threads that wait for work, and for a job to be done: waking nobody would cost a system call too.
    idle: usize,
    waiting: usize,
    /// Whether who waits does so for every job, not for room.
    draining: bool,
    /// The error of the earliest job that failed, and which it is.
    error: Option<(u64, Error)>,
    closed: bool,
}

/// Runs `body` with a pool of `threads` threads that run jobs with `run` (0: one per core; 1: none, the caller's
/// thread does each job as it is handed out), and waits for every job.
///
/// # Errors
/// The error of the earliest job that failed, else that of `body`.
pub(crate) fn with_pool<J: Send, T>(
    threads: usize,
    run: &(dyn Fn(J) -> Result<()> + Sync),
    body: impl FnOnce(&Pool<'_, J>) -> Result<T>,
) -> Result<T> {
    let workers = match threads {
        0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        1 => 0,
        threads => threads,
    };
    let state = State {
        queue: VecDeque::new(),
        bytes: 0,
        running: 0,
        begun: 0,
        idle: 0,
        waiting: 0,
        draining: false,
        error: None,
        closed: false,
    };
    let pool = Pool { state: Mutex::new(state), work: Condvar::new(), done: Condvar::new(), run, workers };
    std::thread::scope(|scope| {
        // Closes the pool however `body` ends: a scope waits for its threads.
        let closer = Closer(&pool);
        for _ in 0..workers {
            std::thread::Builder::new()
                .name("layer-writer".to_owned())
                .spawn_scoped(scope, || pool.serve())
                .map_err(|error| Error::stream("start a writer thread", error))?;
        }
        let result = body(&pool);
        let drained = pool.drain();
        drop(closer);
        // A job's error is the cause of what `body` says then.
        drained.and(result)
    })
}

struct Closer<'a, 'b, J>(&'a Pool<'b, J>);

impl<J> Drop for Closer<'_, '_, J> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.queue.clear();
        self.0.work.notify_all();
    }
}

impl<J: Send> Pool<'_, J> {
    /// Hands out a job that holds so many bytes; waits while too many wait already.
    ///
    /// # Errors
    /// The one of the earliest job that failed.
    pub(crate) fn push(&self, job: J, bytes: usize) -> Result<()> {
        if self.workers == 0 {
            return (self.run)(job);
        }
        let mut state = self.lock();
        while state.error.is_none()
            && (state.queue.len() >= MAX_JOBS || (state.bytes > 0 && state.bytes + bytes > MAX_BYTES))
        {
            state = self.wait_done(state);
        }
        if state.error.is_some() {
            drop(state);
            // An earlier job that is running may fail, too.
            return self.drain();
        }
        state.queue.push_back((job, bytes));
        state.bytes += bytes;
        if state.idle > 0 && (state.queue.len() >= WAKE_JOBS || state.bytes >= WAKE_BYTES) {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Waits until every job is done.
    ///
    /// # Errors
    /// The one of the earliest job that failed.
    pub(crate) fn drain(&self) -> Result<()> {
        let mut state = self.lock();
        if state.idle > 0 && !state.queue.is_empty() {
            self.work.notify_all();
        }
        state.draining = true;
        while state.running > 0 || (!state.queue.is_empty() && state.error.is_none()) {
            state = self.wait_done(state);
        }
        state.draining = false;
        state.error.take().map_or(Ok(()), |(_, error)| Err(error))
    }

    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if let Some((job, bytes)) = state.queue.pop_front() {
                state.running += 1;
                state.begun += 1;
                let number = state.begun;
                drop(state);
                // A job that panics must not leave others waiting for it; the scope passes the panic on.
                let guard = Running { pool: self, bytes };
                if let Err(error) = (self.run)(job) {
                    // Before the job counts as done, so that whoever waits for it sees the error.
                    let mut state = self.lock();
                    if state.error.as_ref().is_none_or(|(other, _)| number < *other) {
                        state.error = Some((number, error));
                    }
                    let dropped: usize = state.queue.drain(..).map(|(_, bytes)| bytes).sum();
                    state.bytes = state.bytes.saturating_sub(dropped);
                }
                drop(guard);
                state = self.lock();
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

impl<J> Pool<'_, J> {
    fn wait_done<'s>(&self, mut state: MutexGuard<'s, State<J>>) -> MutexGuard<'s, State<J>> {
        state.waiting += 1;
        let mut state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Running<'a, 'b, J> {
    pool: &'a Pool<'b, J>,
    bytes: usize,
}

impl<J> Drop for Running<'_, '_, J> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.running -= 1;
        state.bytes = state.bytes.saturating_sub(self.bytes);
        let ended = state.running == 0 && state.queue.is_empty();
        let room = state.queue.len() <= MAX_JOBS / 2 && state.bytes <= MAX_BYTES / 2;
        if state.waiting > 0 && (ended || state.error.is_some() || (room && !state.draining)) {
            self.pool.done.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::Code;

    #[rstest::rstest]
    fn every_job_runs_and_drain_waits_for_it(#[values(1, 2, 8)] threads: usize) {
        let sum = AtomicUsize::new(0);
        let run = |job: usize| {
            sum.fetch_add(job, Ordering::Relaxed);
            Ok(())
        };
        with_pool(threads, &run, |pool| {
            for job in 0..1000 {
                pool.push(job, 1 << 20)?;
            }
            pool.drain()?;
            assert_eq!(sum.load(Ordering::Relaxed), 499_500);
            Ok(())
        })
        .unwrap();
    }

    #[rstest::rstest]
    fn jobs_too_few_to_wake_a_thread_are_done_when_they_are_waited_for(#[values(1, 2, 7, 8, 9)] jobs: usize) {
        let sum = AtomicUsize::new(0);
        let run = |job: usize| {
            sum.fetch_add(job, Ordering::Relaxed);
            Ok(())
        };
        with_pool(2, &run, |pool| {
            for round in 1..=100 {
                for _ in 0..jobs {
                    pool.push(1, 1)?;
                }
                pool.drain()?;
                assert_eq!(sum.load(Ordering::Relaxed), round * jobs);
            }
            Ok(())
        })
        .unwrap();
    }

    #[rstest::rstest]
    fn the_first_error_ends_everything(#[values(1, 2, 8)] threads: usize) {
        let run = |job: usize| {
            if job == 3 { Err(Error::refused(Code::BadId, "x", "test")) } else { Ok(()) }
        };
        let result = with_pool(threads, &run, |pool| {
            for job in 0..100_000 {
                pool.push(job, 0)?;
            }
            Ok(())
        });
        assert_eq!(result.unwrap_err().code(), Some(Code::BadId));
    }

    #[rstest::rstest]
    fn of_several_errors_the_one_of_the_earliest_job_is_told(#[values(1, 2, 8)] threads: usize) {
        let run = |job: u64| {
            // The later one fails sooner.
            let (code, wait) = match job {
                40 => (Code::BadId, 5),
                41 => (Code::BadXattr, 0),
                _ => return Ok(()),
            };
            std::thread::sleep(std::time::Duration::from_millis(wait));
            Err(Error::refused(code, "x", "test"))
        };
        for _ in 0..20 {
            let result = with_pool(threads, &run, |pool| (0..10_000).try_for_each(|job| pool.push(job, 0)));
            assert_eq!(result.unwrap_err().code(), Some(Code::BadId));
        }
    }
}
