//! The container's group and its limits, as the configuration has them.

use anyhow::Result;
use cgroups::Kept;
use kernel::{Errno, Failure};

use crate::spec::Spec;

/// Where the group lies: as the configuration says, else named after the container.
pub fn path(spec: &Spec, id: &str) -> String {
    let asked = spec.linux.as_ref().and_then(|linux| linux.cgroups_path.clone());
    asked.unwrap_or_else(|| id.to_owned())
}

/// Makes it, with its limits. None for an ordinary user who may make no group, and asks for no limit.
///
/// # Errors
/// A group that is not free; a missing controller; a value that the kernel refuses.
pub fn make(path: &str, spec: &Spec) -> Result<Option<Kept>> {
    let linux = spec.linux.as_ref();
    let limited = linux.is_some_and(|linux| linux.resources.is_some());
    let not_ours = |error: &anyhow::Error| {
        let errno = error.downcast_ref::<Failure>().and_then(Failure::errno);
        matches!(errno, Some(Errno::EACCES | Errno::EPERM | Errno::EROFS))
    };
    match Kept::make(path, &[]) {
        Err(error) if !limited && not_ours(&error) => Ok(None),
        made => made.map(Some),
    }
}
