//! Drivers that break exactly one clause each: they show that the suite would notice.
//!
//! A saboteur wraps a whole driver ([`reference`](crate::reference), in the suite's own test) and overrides just
//! what its clause is about. The cases of its clause have to fail, by an assertion and not by a crash, and the
//! cases of every other clause have to pass.
//!
//! To write one: a unit struct, `impl Sabotage` with the one method that breaks, and a row in the topic's table:
//! `Saboteur { clause: "L3", what: "…", wrap: broken::<Overwrites>, also: &[] }`.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use layerstore_changeset::{ChangeSink, ChangeSource};
use layerstore_driver::{
    Applied, Base, Capabilities, Context, CreateOptions, Driver, DriverFactory, LayerId, LayerInfo, Leases,
    Look, MountPlan, OpenOptions, OptionSpec, PathChange, PlanOptions, Probe, Recovered, Registry, Result,
    Usage,
};

use crate::cases::content;

pub use call::{Apply, Changes, Create, Diff, Seal};

mod call;
mod errors;
mod lifecycle;
mod mounts;
mod parallel;
mod said;

/// Every table of saboteurs.
const SABOTEURS: &[&[Saboteur]] =
    &[lifecycle::SABOTEURS, said::SABOTEURS, mounts::SABOTEURS, parallel::SABOTEURS, errors::SABOTEURS];

/// What a saboteur remembers, whatever became of who looked before.
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One broken driver.
#[derive(Debug, Clone, Copy)]
pub struct Saboteur {
    /// The clause that it breaks.
    pub clause: &'static str,
    /// How, for a person.
    pub what: &'static str,
    /// Breaks a driver: [`broken`] with a [`Sabotage`], or by hand where it is the factory that breaks.
    pub wrap: fn(Arc<dyn DriverFactory>) -> Arc<dyn DriverFactory>,
    /// Clauses that cannot but break with it; each needs a reason beside it.
    pub also: &'static [&'static str],
}

/// Every saboteur.
pub fn all() -> Vec<&'static Saboteur> {
    SABOTEURS.iter().chain(content::SABOTEURS).copied().flatten().collect()
}

/// A registry of `factory` and, for each saboteur, a driver `saboteur-l3` made by it.
pub fn registry(factory: Arc<dyn DriverFactory>) -> Registry {
    let wrapped = all().into_iter().map(|saboteur| Named {
        // Names are static by contract; there are as many as there are saboteurs, once per process.
        name: Box::leak(driver_name(saboteur.clause).into_boxed_str()),
        inner: (saboteur.wrap)(Arc::clone(&factory)),
    });
    wrapped.fold(Registry::new().with(Shared(Arc::clone(&factory))), Registry::with)
}

/// A factory under another name, so that a registry can hold it beside the whole one.
pub fn named(name: &'static str, inner: Arc<dyn DriverFactory>) -> impl DriverFactory + 'static {
    Named { name, inner }
}

/// What the driver that breaks a clause is called.
pub fn driver_name(clause: &str) -> String {
    format!("saboteur{}", clause.to_ascii_lowercase())
}

/// What a saboteur may break. Every method forwards to the whole driver unless it is overridden.
#[expect(missing_docs, reason = "each is the method of Driver that it is called like")]
pub trait Sabotage: Debug + Default + Send + Sync + 'static {
    fn capabilities(&self, driver: &dyn Driver) -> Capabilities {
        driver.capabilities()
    }

    fn status(&self, driver: &dyn Driver) -> Result<Vec<(String, String)>> {
        driver.status()
    }

    fn create(&self, driver: &dyn Driver, call: Create<'_>) -> Result<()> {
        call.on(driver)
    }

    fn apply(&self, driver: &dyn Driver, call: &mut Apply<'_>) -> Result<Applied> {
        call.on(driver)
    }

    fn diff(&self, driver: &dyn Driver, call: &mut Diff<'_>) -> Result<()> {
        call.on(driver)
    }

    fn changes(&self, driver: &dyn Driver, call: Changes<'_>) -> Result<Vec<PathChange>> {
        call.on(driver)
    }

    fn seal(&self, driver: &dyn Driver, call: Seal<'_>) -> Result<Usage> {
        call.on(driver)
    }

    fn plan(&self, driver: &dyn Driver, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        driver.plan(id, options)
    }

    fn release(&self, driver: &dyn Driver, id: &LayerId) -> Result<()> {
        driver.release(id)
    }

    fn remove(&self, driver: &dyn Driver, id: &LayerId) -> Result<()> {
        driver.remove(id)
    }

    fn exists(&self, driver: &dyn Driver, id: &LayerId) -> Result<bool> {
        driver.exists(id)
    }

    fn layers(&self, driver: &dyn Driver) -> Result<Vec<LayerInfo>> {
        driver.layers()
    }

    fn layer(&self, driver: &dyn Driver, id: &LayerId) -> Result<LayerInfo> {
        driver.layer(id)
    }

    fn usage(&self, driver: &dyn Driver, id: &LayerId, context: &Context) -> Result<Usage> {
        driver.usage(id, context)
    }

    fn metadata(&self, driver: &dyn Driver, id: &LayerId) -> Result<Vec<(String, String)>> {
        driver.metadata(id)
    }

    fn replace(&self, driver: &dyn Driver, id: &LayerId, with: &LayerId) -> Result<()> {
        driver.replace(id, with)
    }

    fn sync(&self, driver: &dyn Driver, id: &LayerId) -> Result<()> {
        driver.sync(id)
    }

    fn recover(
        &self,
        driver: &dyn Driver,
        is_live: &dyn Fn(&LayerId) -> bool,
        look: Look,
    ) -> Result<Vec<Recovered>> {
        driver.recover(is_live, look)
    }

    fn open(&self, factory: &dyn DriverFactory, open: &OpenOptions) -> Result<Arc<dyn Driver>> {
        factory.open(open)
    }

    fn probe(&self, factory: &dyn DriverFactory, open: &OpenOptions) -> Result<Probe> {
        factory.probe(open)
    }

    fn options(&self, factory: &dyn DriverFactory) -> &'static [OptionSpec] {
        factory.options()
    }
}

/// Breaks a driver with a [`Sabotage`].
pub fn broken<S: Sabotage>(inner: Arc<dyn DriverFactory>) -> Arc<dyn DriverFactory> {
    Arc::new(BrokenFactory { inner, sabotage: S::default() })
}

#[derive(Debug)]
struct BrokenFactory<S> {
    inner: Arc<dyn DriverFactory>,
    sabotage: S,
}

impl<S: Sabotage> DriverFactory for BrokenFactory<S> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn aliases(&self) -> &'static [&'static str] {
        self.inner.aliases()
    }

    fn description(&self) -> &'static str {
        self.inner.description()
    }

    fn last_resort(&self) -> bool {
        self.inner.last_resort()
    }

    fn options(&self) -> &'static [OptionSpec] {
        self.sabotage.options(&*self.inner)
    }

    fn probe(&self, open: &OpenOptions) -> Result<Probe> {
        self.sabotage.probe(&*self.inner, open)
    }

    fn open(&self, open: &OpenOptions) -> Result<Arc<dyn Driver>> {
        let inner = self.sabotage.open(&*self.inner, open)?;
        // What a sabotage remembers it remembers for one handle, as a driver would.
        Ok(Arc::new(Broken { inner, sabotage: S::default() }))
    }

    fn repair_root(&self, open: &OpenOptions) -> Result<Option<String>> {
        self.inner.repair_root(open)
    }
}

/// A broken driver.
#[derive(Debug)]
struct Broken<S> {
    inner: Arc<dyn Driver>,
    sabotage: S,
}

impl<S: Sabotage> Driver for Broken<S> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.sabotage.capabilities(&*self.inner)
    }

    fn status(&self) -> Result<Vec<(String, String)>> {
        self.sabotage.status(&*self.inner)
    }

    fn leases(&self) -> &Leases {
        self.inner.leases()
    }

    fn create(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        options: &CreateOptions,
        context: &Context,
    ) -> Result<()> {
        self.sabotage.create(&*self.inner, Create { id, parent, options, context })
    }

    fn apply(&self, id: &LayerId, changes: &mut dyn ChangeSource, context: &Context) -> Result<Applied> {
        self.sabotage.apply(&*self.inner, &mut Apply { id, changes, context })
    }

    fn diff(&self, id: &LayerId, base: Base<'_>, sink: &mut dyn ChangeSink, context: &Context) -> Result<()> {
        self.sabotage.diff(&*self.inner, &mut Diff { id, base, sink, context })
    }

    fn changes(&self, id: &LayerId, base: Base<'_>, context: &Context) -> Result<Vec<PathChange>> {
        self.sabotage.changes(&*self.inner, Changes { id, base, context })
    }

    fn seal(&self, id: &LayerId, parent: Option<&LayerId>, context: &Context) -> Result<Usage> {
        self.sabotage.seal(&*self.inner, Seal { id, parent, context })
    }

    fn plan(&self, id: &LayerId, options: &PlanOptions) -> Result<MountPlan> {
        self.sabotage.plan(&*self.inner, id, options)
    }

    fn release(&self, id: &LayerId) -> Result<()> {
        self.sabotage.release(&*self.inner, id)
    }

    fn remove(&self, id: &LayerId) -> Result<()> {
        self.sabotage.remove(&*self.inner, id)
    }

    fn exists(&self, id: &LayerId) -> Result<bool> {
        self.sabotage.exists(&*self.inner, id)
    }

    fn layers(&self) -> Result<Vec<LayerInfo>> {
        self.sabotage.layers(&*self.inner)
    }

    fn ids(&self) -> Result<Vec<LayerId>> {
        self.inner.ids()
    }

    fn layer(&self, id: &LayerId) -> Result<LayerInfo> {
        self.sabotage.layer(&*self.inner, id)
    }

    fn usage(&self, id: &LayerId, context: &Context) -> Result<Usage> {
        self.sabotage.usage(&*self.inner, id, context)
    }

    fn metadata(&self, id: &LayerId) -> Result<Vec<(String, String)>> {
        self.sabotage.metadata(&*self.inner, id)
    }

    fn replace(&self, id: &LayerId, with: &LayerId) -> Result<()> {
        self.sabotage.replace(&*self.inner, id, with)
    }

    fn sync(&self, id: &LayerId) -> Result<()> {
        self.sabotage.sync(&*self.inner, id)
    }

    fn recover(&self, is_live: &dyn Fn(&LayerId) -> bool, look: Look) -> Result<Vec<Recovered>> {
        self.sabotage.recover(&*self.inner, is_live, look)
    }
}

/// A factory that a registry can take, under its own name.
#[derive(Debug)]
struct Shared(Arc<dyn DriverFactory>);

/// A factory under another name.
#[derive(Debug)]
struct Named {
    name: &'static str,
    inner: Arc<dyn DriverFactory>,
}

macro_rules! forward {
    ($type:ty, |$self:ident| $name:expr, $inner:expr) => {
        impl DriverFactory for $type {
            fn name(&self) -> &'static str {
                let $self = self;
                $name
            }

            fn aliases(&self) -> &'static [&'static str] {
                let $self = self;
                $inner.aliases()
            }

            fn description(&self) -> &'static str {
                let $self = self;
                $inner.description()
            }

            fn last_resort(&self) -> bool {
                let $self = self;
                $inner.last_resort()
            }

            fn options(&self) -> &'static [OptionSpec] {
                let $self = self;
                $inner.options()
            }

            fn probe(&self, open: &OpenOptions) -> Result<Probe> {
                let $self = self;
                $inner.probe(open)
            }

            fn open(&self, open: &OpenOptions) -> Result<Arc<dyn Driver>> {
                let $self = self;
                $inner.open(open)
            }

            fn repair_root(&self, open: &OpenOptions) -> Result<Option<String>> {
                let $self = self;
                $inner.repair_root(open)
            }
        }
    };
}

forward!(Shared, |this| this.0.name(), this.0);
forward!(Named, |this| this.name, this.inner);
