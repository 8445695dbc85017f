//! Which cable is a cell's: names, and what tells them from the same names elsewhere.

use anyhow::Result;
use kernel::Failure;
use kernel::identity::{boot_id, namespace_here};
use serde::{Deserialize, Serialize};

/// Which cable is a cell's: what has to be known to give its place back, by another process than the one that laid it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cable {
    /// The bridge's name.
    pub(crate) bridge: String,
    /// The name of the end that is plugged into it.
    pub(crate) veth: String,
    /// The inode of the network namespace in which they are: the same names elsewhere are not ours.
    #[serde(default)]
    namespace: Option<u64>,
    /// Which start of the machine that was: after another, the cable is gone, and the number may be another namespace's.
    #[serde(default)]
    boot: Option<String>,
}

impl Cable {
    /// One in this network namespace, laid since the machine was started.
    pub(crate) fn here(bridge: &str, veth: &str) -> Cable {
        let (bridge, veth) = (bridge.to_owned(), veth.to_owned());
        Cable { bridge, veth, namespace: namespace_here("net").ok(), boot: boot_id().ok() }
    }

    /// Refuses a cable that lies in another network namespace than this process.
    ///
    /// # Errors
    /// It does, or there is no /proc.
    pub fn check_here(&self) -> Result<()> {
        let elsewhere = self.namespace.filter(|namespace| namespace_here("net").ok() != Some(*namespace));
        let Some(namespace) = elsewhere.filter(|_| !self.went_with_the_machine()) else { return Ok(()) };
        let text = format!("the bridge {} is in another network namespace, net:[{namespace}]", self.bridge);
        Err(Failure::new(text).hint("lsns --type net shows a process in it: nsenter --net --target PID").into())
    }

    /// Whether the machine has been started anew since the cable was laid.
    pub(crate) fn went_with_the_machine(&self) -> bool {
        self.boot.as_ref().is_some_and(|then| boot_id().is_ok_and(|now| now != *then))
    }
}
