//! One function a verb. Each calls the library and prints what it says; nothing is decided here.

mod conformance;
mod container;

mod definition;
mod drivers;
mod export;
mod image;
mod layer;
mod store;
mod tree;

use std::process::ExitCode;

use layerstore_driver::Registry;

use crate::args::{Arguments, Command, Format};
use crate::failure::{Failure, Result, print};
use crate::session::Session;

/// Runs the verb that was typed.
pub(crate) fn dispatch(arguments: Arguments, registry: Registry) -> Result<ExitCode> {
    let Arguments { global, command } = arguments;
    if matches!(global.format, Format::Junit | Format::Html) && !matches!(command, Command::Conformance(_)) {
        return Err(Failure::usage("read arguments", "this --format is for `conformance` only"));
    }
    let session = Session::new(global, registry);
    match command {
        Command::Info => store::info(&session),
        Command::Drivers { name } => drivers::drivers(&session, name.as_deref()),
        Command::Df => store::df(&session),
        Command::Check(arguments) => return store::check(&session, &arguments),
        Command::Gc { dry_run } => store::gc(&session, dry_run),
        Command::Pull(arguments) => image::pull(&session, &arguments),
        Command::Push(arguments) => image::push(&session, &arguments),
        Command::Images => image::images(&session),
        Command::Inspect { names } => image::inspect(&session, &names),
        Command::History { image } => image::history(&session, &image),
        Command::Tree { image } => tree::tree(&session, image.as_deref()),
        Command::Tag(arguments) => image::tag(&session, &arguments),
        Command::Untag { name } => image::untag(&session, &name),
        Command::Rmi(arguments) => image::rmi(&session, &arguments),
        Command::Create(arguments) => container::create(&session, arguments),
        Command::Ps => container::ps(&session),
        Command::Mount(arguments) => container::mount(&session, arguments),
        Command::Unmount(arguments) => container::unmount(&session, &arguments),
        Command::Diff { name } => container::diff(&session, &name),
        Command::Commit(arguments) => container::commit(&session, arguments),
        Command::Export(arguments) => export::export(&session, &arguments),
        Command::Rm(arguments) => container::rm(&session, &arguments),
        Command::Layer(verb) => layer::dispatch(&session, verb),
        Command::Conformance(arguments) => return conformance::run(&session, &arguments),
        Command::Completions { shell } => definition::completions(shell),
        Command::Man { directory } => definition::man(&directory),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Does something with each of several objects, goes on after a failure, and fails at the end if any did.
fn each<T>(session: &Session, objects: &[T], mut work: impl FnMut(&T) -> Result<()>) -> Result<()> {
    let mut failed = false;
    for object in objects {
        match work(object) {
            Ok(()) => {}
            // After Ctrl-C the others are left, too.
            Err(Failure::Store(error)) if error.kind() != layerstore::Kind::Cancelled => {
                print(&error, session.format());
                failed = true;
            }
            Err(other) => return Err(other),
        }
    }
    if failed { Err(Failure::Reported) } else { Ok(()) }
}
