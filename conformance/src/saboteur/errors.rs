//! Saboteurs of errors and answers (E).

use layerstore_changeset::Code;
use layerstore_driver::{
    Applied, CreateOptions, Driver, DriverFactory, Error, Kind, LayerId, OpenOptions, OptionKind, OptionSpec,
    Probe, Result,
};
use layerstore_sys as sys;

use super::{Apply, Create, Sabotage, Saboteur, broken};

pub(super) const SABOTEURS: &[Saboteur] = &[
    Saboteur {
        clause: "E1",
        what: "a refused remove does not say of what",
        wrap: broken::<Terse>,
        also: &[],
    },
    Saboteur {
        clause: "E2",
        what: "a refused size limit leaves the layer made",
        wrap: broken::<RefusesTooLate>,
        also: &[],
    },
    Saboteur {
        clause: "E3",
        what: "a probe makes the root and leaves it",
        wrap: broken::<ProbeStays>,
        also: &[],
    },
    Saboteur { clause: "E4", what: "any option is taken", wrap: broken::<TakesAnyOption>, also: &[] },
    Saboteur {
        clause: "E5",
        what: "a refused changeset loses its code",
        wrap: broken::<LosesCode>,
        // What comes of a hostile layer is told by its code.
        also: &["A23"],
    },
];

#[derive(Debug, Default)]
struct Terse;

impl Sabotage for Terse {
    fn remove(&self, driver: &dyn Driver, id: &LayerId) -> Result<()> {
        driver.remove(id).map_err(|error| Error::new(error.kind(), "remove", "It did not work."))
    }
}

#[derive(Debug, Default)]
struct RefusesTooLate;

impl Sabotage for RefusesTooLate {
    fn create(&self, driver: &dyn Driver, call: Create<'_>) -> Result<()> {
        let made = call.on(driver);
        if made.as_ref().is_err_and(|error| error.kind() == Kind::Unsupported) {
            Create { options: &CreateOptions::default(), ..call }.on(driver)?;
        }
        made
    }
}

#[derive(Debug, Default)]
struct ProbeStays;

impl Sabotage for ProbeStays {
    fn probe(&self, factory: &dyn DriverFactory, open: &OpenOptions) -> Result<Probe> {
        let probe = factory.probe(open)?;
        if probe == Probe::Usable {
            sys::fs::make_dirs(&open.root, 0o700).map_err(|error| Error::system("probe", error))?;
        }
        Ok(probe)
    }
}

#[derive(Debug, Default)]
struct TakesAnyOption;

impl Sabotage for TakesAnyOption {
    fn options(&self, _: &dyn DriverFactory) -> &'static [OptionSpec] {
        const ANY: &[OptionSpec] =
            &[OptionSpec { key: "no-driver-has-this", kind: OptionKind::Text, default: "", doc: "anything" }];
        ANY
    }
}

#[derive(Debug, Default)]
struct LosesCode;

impl Sabotage for LosesCode {
    fn apply(&self, driver: &dyn Driver, call: &mut Apply<'_>) -> Result<Applied> {
        call.on(driver).map_err(|error| match error.code() {
            Some(Code::BadWhiteout) => {
                Error::new(error.kind(), error.operation(), error.message()).with_layer(call.id)
            }
            _ => error,
        })
    }
}
