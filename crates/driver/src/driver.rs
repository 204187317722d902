//! The driver trait. Each promise is a clause of `conformance/README.md`.

use std::fmt::Debug;

use layerstore_changeset::tree::{Applied, PathChange, Usage};
use layerstore_changeset::{ChangeSink, ChangeSource, Context};

use crate::capability::Capabilities;
use crate::error::Result;
use crate::id::LayerId;
use crate::lease::Leases;
use crate::plan::{MountPlan, PlanOptions};

/// How layers lie on disk and become one root file system.
///
/// Object safe and blocking, without default methods: what a driver cannot do it refuses with
/// [`Unsupported`](crate::Kind::Unsupported) and a reason. Calls for one layer id exclude each other (also between
/// processes, through [`Leases::lock`]); calls for different ids never wait for each other. Mounting is
/// [`DriverExt`](crate::mount::DriverExt), which no driver implements.
pub trait Driver: Debug + Send + Sync {
    /// The driver's name, as in the configuration.
    fn name(&self) -> &str;

    /// What it can do, as opened here.
    fn capabilities(&self) -> Capabilities;

    /// What a person wants to see in `info`: pairs of label and value.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    fn status(&self) -> Result<Vec<(String, String)>>;

    /// The book of mounts and locks in this driver's runroot.
    fn leases(&self) -> &Leases;

    /// Makes a writable layer over a sealed parent, or over nothing. Done, or not there at all.
    ///
    /// # Errors
    /// `AlreadyExists`; `NotFound` for the parent; `InvalidInput` when the parent is not sealed; `LimitExceeded`
    /// when the chain gets too long; `Unsupported` for an option that is not claimed.
    fn create(
        &self,
        id: &LayerId,
        parent: Option<&LayerId>,
        options: &CreateOptions,
        context: &Context,
    ) -> Result<()>;

    /// Writes a changeset into a writable layer that is not mounted and returns what was written. After an error
    /// the layer holds part of it and is good for nothing but removal.
    ///
    /// # Errors
    /// `NotFound`; `InUse` while mounted; `InvalidInput` when sealed, or for input that is refused (with its
    /// code); `NoSpace`, `LimitExceeded`, `Cancelled`.
    fn apply(&self, id: &LayerId, changes: &mut dyn ChangeSource, context: &Context) -> Result<Applied>;

    /// Writes what leads from `base` to the layer's view into `sink`, in normal form and complete. A mounted
    /// layer may be diffed: what is written meanwhile is in or out.
    ///
    /// # Errors
    /// `NotFound`, `Cancelled`, and the sink's.
    fn diff(&self, id: &LayerId, base: Base<'_>, sink: &mut dyn ChangeSink, context: &Context) -> Result<()>;

    /// The names that differ between `base` and the layer's view, in the order of the normal form, without data.
    ///
    /// # Errors
    /// `NotFound`, `Cancelled`.
    fn changes(&self, id: &LayerId, base: Base<'_>, context: &Context) -> Result<Vec<PathChange>>;

    /// Makes the layer read-only for good, without copying, and records what it takes. With the capability
    /// `rebase`, `parent` gives the parent that was not known at creation. Sealing a sealed layer is the same
    /// as not doing it.
    ///
    /// # Errors
    /// `NotFound`; `InUse` while mounted writable; `Unsupported` or `InvalidInput` for a parent.
    fn seal(&self, id: &LayerId, parent: Option<&LayerId>, context: &Context) -> Result<Usage>;

    /// What to mount to get the layer's view; prepares what that needs, and is idempotent. Takes no lock: who
    /// mounts holds the layer's lock around this and [`release`](Self::release).
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a writable view of a sealed layer; `Unsupported` for an option that is not
    /// claimed.
    fn plan(&self, id: &LayerId, options: &PlanOptions) -> Result<MountPlan>;

    /// Undoes what [`plan`](Self::plan) prepared, after the last user is gone. Idempotent; tolerates a mount that
    /// is still there, and an id that is not.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    fn release(&self, id: &LayerId) -> Result<()>;

    /// Removes a layer: the id is free at once, space may come back later.
    ///
    /// # Errors
    /// `NotFound`; `InUse` with children or mounts.
    fn remove(&self, id: &LayerId) -> Result<()>;

    /// Whether the layer exists.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    fn exists(&self, id: &LayerId) -> Result<bool>;

    /// Every layer, in no order.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    fn layers(&self) -> Result<Vec<LayerInfo>>;

    /// The id of every layer, in no order, also of those that [`layers`](Self::layers) leaves out: another version
    /// wrote them, or so little is left of them that asking for one gives `Corrupt`. A power cut may take what was
    /// written of a layer before it was made durable; it can be removed, and until then it keeps its parent from being
    /// removed. Reads names only, however many layers there are.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    fn ids(&self) -> Result<Vec<LayerId>>;

    /// One layer.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    fn layer(&self, id: &LayerId) -> Result<LayerInfo>;

    /// The space the layer takes by itself. Of a sealed layer it is what was recorded, never a walk.
    ///
    /// # Errors
    /// `NotFound`.
    fn usage(&self, id: &LayerId, context: &Context) -> Result<Usage>;

    /// Where the layer lies, as pairs of label and path (`UpperDir` …), for people and their tools.
    ///
    /// # Errors
    /// `NotFound`.
    fn metadata(&self, id: &LayerId) -> Result<Vec<(String, String)>>;

    /// Puts the content of the sealed layer `with` in the place of that of the sealed layer `id`, and `with` is gone
    /// then. This is how damage is repaired: the layers built on `id` stay, and see the new content. Both have the
    /// same parent; what lies at `id` may be damaged in every way, or missing.
    ///
    /// # Errors
    /// `NotFound` for `with`; `InvalidInput` when it is not sealed or has another parent or children; `InUse` while
    /// either is mounted.
    fn replace(&self, id: &LayerId, with: &LayerId) -> Result<()>;

    /// Makes the layer with everything in it durable, without waiting for what others write to the file system.
    ///
    /// # Errors
    /// `NotFound`, `NoSpace`; `System` when something is lost: it is not made durable by a second try.
    fn sync(&self, id: &LayerId) -> Result<()>;

    /// Finishes or undoes what a crash left half done, except for the ids that `is_live` claims for others.
    ///
    /// # Errors
    /// [`System`](crate::Kind::System).
    fn recover(&self, is_live: &dyn Fn(&LayerId) -> bool, look: Look) -> Result<Vec<Recovered>>;
}

/// How much a recovery looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// What dead processes left, and every layer only where a power cut may have torn it: once after a boot.
    Leftovers,
    /// Every layer, whenever it was looked at before: a person wants a repair of what somebody damaged.
    Everything,
}

/// What a difference is taken against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base<'a> {
    /// The layer's parent; nothing for a base layer.
    Parent,
    /// Nothing: the whole view.
    Empty,
    /// Another layer's view.
    Layer(&'a LayerId),
}

/// How a layer is created.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CreateOptions {
    /// Most bytes the layer may take by itself (capability `size_limit`).
    pub size_limit: Option<u64>,
}

/// What is known of a layer without touching its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// The layer.
    pub id: LayerId,
    /// Its parent; none for a base layer.
    pub parent: Option<LayerId>,
    /// Whether it can still be written.
    pub state: LayerState,
    /// A changeset was not applied to its end and nobody is at it any more: the layer holds a part of it, and is good
    /// for nothing but removal.
    pub half_applied: bool,
}

/// Whether a layer can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerState {
    /// Writable.
    Writable,
    /// Read-only for good.
    Sealed,
}

/// Something that recovery found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The layer, where it has an id.
    pub id: Option<LayerId>,
    /// What was found and done about it, for a person.
    pub what: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a recovery did about something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Something of a layer that is there was wrong, and is right now.
    Repaired,
    /// What belongs to no layer was taken away: nothing was wrong with any, and its remover may be alive.
    Tidied,
    /// What belongs to no layer could not be taken away: it costs space, and the next recovery tries again.
    NotFreed,
    /// Nothing.
    LeftAlone,
}
