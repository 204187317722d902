//! The part of the process's environment that configuration depends on, as a value.

use std::ffi::OsString;
use std::path::PathBuf;

/// Environment variables and user that decide defaults. A value, so that tests and embedders choose it.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `LAYERSTORE_CONFIG`.
    pub config: Option<PathBuf>,
    /// `LAYERSTORE_CONFIG_OVERRIDE`: a file that is read after all others.
    pub config_override: Option<PathBuf>,
    /// `LAYERSTORE_ROOT`.
    pub root: Option<PathBuf>,
    /// `LAYERSTORE_RUNROOT`.
    pub runroot: Option<PathBuf>,
    /// `LAYERSTORE_DRIVER`.
    pub driver: Option<String>,
    /// `LAYERSTORE_DRIVER_OPTS`: options as `--driver-opt` takes them, with commas between.
    pub driver_options: Option<String>,
    /// The user whose directories are meant; 0 gets the system's.
    pub uid: u32,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub xdg_config_home: Option<PathBuf>,
    /// `XDG_DATA_HOME`.
    pub xdg_data_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// The system's directories of configuration, the strongest first; `/etc/layerstore` and
    /// `/usr/share/layerstore` in [`Environment::current`].
    pub system_dirs: Vec<PathBuf>,
}

impl Environment {
    /// The environment of this process. Empty variables count as not set.
    pub fn current() -> Self {
        let variable = |name: &str| -> Option<OsString> { std::env::var_os(name).filter(|v| !v.is_empty()) };
        let path = |name: &str| variable(name).map(PathBuf::from);
        let text = |name: &str| variable(name).map(|value| value.to_string_lossy().into_owned());
        let (root, runroot) = (path("LAYERSTORE_ROOT"), path("LAYERSTORE_RUNROOT"));
        let uid = layerstore_sys::process::effective_uid();
        Self {
            config: path("LAYERSTORE_CONFIG"),
            config_override: path("LAYERSTORE_CONFIG_OVERRIDE"),
            // Nothing depends on it where both directories are named.
            uid: if uid == 0 && (root.is_none() || runroot.is_none()) { user_of_root() } else { uid },
            root,
            runroot,
            driver: text("LAYERSTORE_DRIVER"),
            driver_options: text("LAYERSTORE_DRIVER_OPTS"),
            home: path("HOME"),
            xdg_config_home: path("XDG_CONFIG_HOME"),
            xdg_data_home: path("XDG_DATA_HOME"),
            xdg_runtime_dir: path("XDG_RUNTIME_DIR"),
            system_dirs: ["/etc/layerstore", "/usr/share/layerstore"].map(PathBuf::from).into(),
        }
    }

    /// The user's own directory of configuration.
    pub(crate) fn user_dir(&self) -> Option<PathBuf> {
        let base = self.xdg_config_home.clone().or_else(|| Some(self.home.as_ref()?.join(".config")))?;
        Some(base.join("layerstore"))
    }

    /// What a variable in a configured path stands for. Few are known, so that a store does not move with
    /// whatever happens to be set.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let path = match name {
            "HOME" => self.home.clone(),
            "XDG_CONFIG_HOME" => self.xdg_config_home.clone(),
            "XDG_DATA_HOME" => self.xdg_data_home.clone(),
            "XDG_RUNTIME_DIR" => self.xdg_runtime_dir.clone(),
            "UID" => return Some(self.uid.to_string()),
            _ => None,
        };
        path.map(|path| path.to_string_lossy().into_owned())
    }

    /// The built-in place of the store.
    pub(crate) fn default_root(&self) -> PathBuf {
        if self.uid == 0 {
            return PathBuf::from("/var/lib/layerstore");
        }
        let data = self.xdg_data_home.clone();
        let data = data.or_else(|| Some(self.home.as_ref()?.join(".local/share")));
        data.unwrap_or_else(|| PathBuf::from(format!("/var/tmp/user-{}", self.uid))).join("layerstore")
    }

    /// The built-in place of what dies with a reboot.
    pub(crate) fn default_runroot(&self) -> PathBuf {
        if self.uid == 0 {
            return PathBuf::from("/run/layerstore");
        }
        let runtime = self.xdg_runtime_dir.clone();
        runtime.unwrap_or_else(|| PathBuf::from(format!("/run/user/{}", self.uid))).join("layerstore")
    }
}

/// Whose directories root has: root of a user namespace that another user made (`unshare -Urm`) has that user's, as the
/// system's are out of reach. Root of a container has the container's.
fn user_of_root() -> u32 {
    let is_ours = |stat: Option<layerstore_sys::Stat>| stat.is_none_or(|stat| stat.uid == 0);
    if layerstore_sys::fs::stat("/var/lib").is_ok_and(is_ours) {
        return 0;
    }
    layerstore_sys::process::outside_uid(0).unwrap_or(0)
}
