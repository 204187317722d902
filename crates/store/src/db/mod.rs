//! The metadata database: connections, transactions and the gate for writers.
//!
//! SQLite in WAL mode with `synchronous=FULL`: readers see a snapshot and never wait; a transaction that
//! returned is on disk. Writers queue at a file of its own before `BEGIN IMMEDIATE`, in the order in which they came,
//! where SQLite's own busy loop starves; a place in the queue dies with its process. No file is written inside a
//! transaction.
//! Connections are pooled in the handle and never cross a fork.

pub(crate) mod containers;
pub(crate) mod damage;
pub(crate) mod images;
pub(crate) mod layers;
pub(crate) mod removed;
mod reserve;
pub(crate) mod retake;
mod schema;
pub(crate) mod sessions;
pub(crate) mod untagged;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use layerstore_driver::Kind;
use layerstore_sys::turn::Turn;
use layerstore_sys::{Dir, FileType};
use rusqlite::config::DbConfig;
use rusqlite::trace::{TraceEvent, TraceEventCodes};
use rusqlite::{Connection, OpenFlags, StatementStatus, Transaction, TransactionBehavior};

use crate::error::{Error, Explain as _, ExplainOwn as _, Result};

pub(crate) use schema::VERSION;

/// SQLite before this version can damage a WAL that is reset while it is read (fixed in 3.51.3).
const OLDEST_SQLITE: i32 = 3_051_003;
const OPEN: &str = "open store";
const FILE: &str = "layerstore.db";
/// From how many pages of 4 KiB on the WAL is folded into the database: an opening reads them all again.
const LONG_LOG: u32 = 64;

/// The database of one store.
#[derive(Debug)]
pub(crate) struct Database {
    path: PathBuf,
    root: Dir,
    pool: Mutex<Vec<Connection>>,
    process: u32,
}

/// How sure a transaction must be to survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// On disk when it returns.
    Full,
    /// With the next full one: for rows whose loss costs at most a leftover that `gc` finds.
    Relaxed,
}

impl Database {
    /// Opens the database in `root`; none when there is no store yet.
    pub(crate) fn open(root: &Dir) -> Result<Option<Self>> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            let message = format!("SQLite {} is too old, 3.51.3 is needed", rusqlite::version());
            return Err(Error::new(Kind::Unsupported, OPEN, "", message));
        }
        let Some(stat) = root.try_stat(FILE.as_bytes()).explain(OPEN, "")? else { return Ok(None) };
        let regular = stat.kind == FileType::Regular;
        if regular && stat.size == 0 {
            return Ok(None);
        }
        if !regular {
            return Err(schema::damaged(format!("{FILE} is not a file")));
        }
        let database = Self::at(root);
        let connection = database.connection()?;
        if schema::is_new(&connection)? {
            return Ok(None);
        }
        schema::check(&connection)?;
        database.give_back(connection);
        reserve::fill(root);
        Ok(Some(database))
    }

    /// Makes the database of a new store that uses `driver`; somebody else may be faster.
    pub(crate) fn create(root: &Dir, driver: &str) -> Result<Self> {
        let database = Self::at(root);
        // The first connection makes the file and switches it to WAL, which two at once cannot do.
        let gate = gate(root, OPEN)?;
        let connection = database.connection()?;
        database.give_back(connection);
        drop(gate);
        database.write(OPEN, Durability::Full, |transaction| {
            if schema::is_new(transaction)? { schema::create(transaction, driver, now()) } else { Ok(()) }
        })?;
        database.read(OPEN, schema::check)?;
        reserve::fill(root);
        root.sync().explain(OPEN, "")?;
        Ok(database)
    }

    /// Writes everything into the database's own file and closes it, so that the file is all there is.
    pub(crate) fn close(self) -> Result<()> {
        let connection = self.connection()?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).explain(OPEN, "")?;
        self.pool().clear();
        connection.close().map_err(|(_, error)| error).explain(OPEN, "")
    }

    fn at(root: &Dir) -> Self {
        Self {
            path: root.path().join("layerstore.db"),
            root: root.clone(),
            pool: Mutex::new(Vec::new()),
            process: std::process::id(),
        }
    }

    /// The driver that the store was made with.
    pub(crate) fn driver(&self) -> Result<Option<String>> {
        self.read(OPEN, |connection| schema::meta(connection, "driver"))
    }

    /// Reads one consistent state; never waits for a writer.
    pub(crate) fn read<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> Result<T>,
    ) -> Result<T> {
        let mut connection = self.connection()?;
        let transaction = connection.transaction().explain(operation, "")?;
        let result = work(&transaction);
        drop(transaction);
        self.give_back(connection);
        result
    }

    /// One transaction: everything that `work` does, or nothing when it fails.
    pub(crate) fn write<T>(
        &self,
        operation: &'static str,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        self.write_and(operation, durability, work, |_| ()).map(|(result, ())| result)
    }

    /// As [`Database::write`]; `committed` comes after the transaction, and before anybody else's.
    pub(crate) fn write_and<T, U>(
        &self,
        operation: &'static str,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T>,
        committed: impl FnOnce(&T) -> U,
    ) -> Result<(T, U)> {
        let mut connection = self.connection()?;
        let gate = gate(&self.root, operation)?;
        let level = if durability == Durability::Full { "FULL" } else { "NORMAL" };
        connection.pragma_update(None, "synchronous", level).explain(operation, "")?;
        fold_log(&connection);
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).explain(operation, "")?;
        let result = work(&transaction)?;
        transaction.commit().explain(operation, "")?;
        let more = committed(&result);
        drop(gate);
        self.give_back(connection);
        Ok((result, more))
    }

    /// As [`Database::write`], for a transaction that frees space or finds damage: on a full disk it draws on the
    /// reserve.
    pub(crate) fn write_freeing<T>(
        &self,
        operation: &'static str,
        durability: Durability,
        work: impl Fn(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        self.write_freeing_and(operation, durability, work, |_| ()).map(|(result, ())| result)
    }

    /// As [`Database::write_freeing`] and [`Database::write_and`].
    pub(crate) fn write_freeing_and<T, U>(
        &self,
        operation: &'static str,
        durability: Durability,
        work: impl Fn(&Transaction<'_>) -> Result<T>,
        committed: impl Fn(&T) -> U,
    ) -> Result<(T, U)> {
        loop {
            match self.write_and(operation, durability, &work, &committed) {
                Err(error) if error.kind() == Kind::NoSpace && reserve::draw(&self.root) => {}
                written => return written,
            }
        }
    }

    /// Fills up the reserve of space, where there is room again.
    pub(crate) fn fill_reserve(&self) {
        reserve::fill(&self.root);
    }

    /// What a transaction would give; nothing of it stays.
    pub(crate) fn rehearse<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut connection = self.connection()?;
        let gate = gate(&self.root, operation)?;
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).explain(operation, "")?;
        let result = work(&transaction)?;
        transaction.rollback().explain(operation, "")?;
        drop(gate);
        self.give_back(connection);
        Ok(result)
    }

    fn connection(&self) -> Result<Connection> {
        if self.process != std::process::id() {
            let message = "the store was opened before a fork; open it again in the child";
            return Err(Error::new(Kind::InvalidInput, OPEN, "", message));
        }
        match self.pool().pop() {
            Some(connection) => Ok(connection),
            None => loop {
                match connect(&self.path) {
                    // Nothing can be removed from a store that cannot be opened.
                    Err(error) if error.kind() == Kind::NoSpace && reserve::draw(&self.root) => {}
                    connected => return connected,
                }
            },
        }
    }

    fn give_back(&self, connection: Connection) {
        self.pool().push(connection);
    }

    fn pool(&self) -> MutexGuard<'_, Vec<Connection>> {
        // A list of idle connections is whole even if its holder panicked.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the turn to write, or to bind the store.
pub(crate) fn gate(root: &Dir, operation: &'static str) -> Result<Turn> {
    let file = root.open_or_create_file(b"gate.lock", 0o600).explain_own(operation, "")?;
    Turn::wait(file).explain(operation, "")
}

fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags).explain(OPEN, "")?;
    tell_statements(&mut connection)?;
    // Writers queue at the gate; what is waited for here is a checkpoint or a recovery of the WAL.
    connection.busy_timeout(Duration::from_secs(60)).explain(OPEN, "")?;
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).explain(OPEN, "")?;
    if mode != "wal" {
        connection.pragma_update(None, "journal_mode", "WAL").explain(OPEN, "")?;
    }
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA mmap_size = 0; PRAGMA trusted_schema = OFF; PRAGMA journal_size_limit = 4194304;",
        )
        .explain(OPEN, "")?;
    // Every command of a script is the last connection as it ends. Folding the WAL into the database there costs
    // each of them two syncs and two removed files, and the next one makes them again; `fold_log` is enough, and keeps
    // what an opening has to read short. It also lets the next one open the store on a full disk.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).explain(OPEN, "")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0).explain(OPEN, "")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Folds a long WAL into the database, right before a transaction, which then begins the WAL anew.
///
/// SQLite would do it by itself after a transaction (`wal_autocheckpoint`). That the WAL was folded stands only in the
/// index in shared memory, though, which is made anew by whoever is alone when it opens the store: where each command
/// is a process of its own, every one of them would fold all of a WAL that never begins anew and grows for ever.
fn fold_log(connection: &Connection) {
    // NOOP only says how long it is. PASSIVE waits for nobody: where somebody still reads the old state, the WAL is
    // begun anew by a later transaction.
    let fold = || {
        let length = connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get::<_, u32>(1))?;
        if length < LONG_LOG {
            return Ok(());
        }
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    };
    if let Err(error) = fold() {
        // All that was acknowledged is in the WAL, which only grows; the transaction meets the same disk.
        tracing::debug!(%error, "the log of the database was not folded into it");
    }
}

/// Tells every statement that ends as an event of `tracing` with the target `layerstore::sql`, where somebody
/// listens: its text, the steps of SQLite's machine and those of them that went on to the next row of a whole table
/// (both since the statement was prepared), and how long it took.
fn tell_statements(connection: &mut Connection) -> Result<()> {
    if !tracing::enabled!(target: "layerstore::sql", tracing::Level::TRACE) {
        return Ok(());
    }
    let tell = |event: TraceEvent<'_>| {
        let TraceEvent::Profile(statement, took) = event else { return };
        let steps = statement.get_status(StatementStatus::VmStep);
        let scanned = statement.get_status(StatementStatus::FullscanStep);
        let sql = statement.sql();
        tracing::trace!(target: "layerstore::sql", sql = &*sql, steps, scanned, ?took);
    };
    connection.trace_v2(TraceEventCodes::SQLITE_TRACE_PROFILE, Some(tell)).explain(OPEN, "")
}

/// Now, in nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|duration| i64::try_from(duration.as_nanos()).ok()).unwrap_or(0)
}

/// The keys of the table `meta` that begin with this.
fn meta_keys(connection: &Connection, prefix: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare_cached("SELECT key FROM meta WHERE key >= ? AND key < ?")?;
    statement.query_map([prefix, &prefix_end(prefix)], |row| row.get(0))?.collect()
}

/// A prefix as the range of texts that begin with it: `WHERE id >= first AND id < last`. Only for prefixes of
/// ASCII letters, digits and `:-_.`.
pub(crate) fn prefix_end(prefix: &str) -> String {
    // Every byte that an id may hold sorts before this one.
    format!("{prefix}\u{7f}")
}
