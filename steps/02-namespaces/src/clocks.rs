//! Clocks of its own: a time namespace. It hides nothing; it is for programs that move to another machine and measure time.

use anyhow::{Context, Result};
use kernel::sys::clone;
use kernel::{Errno, Remedy, purpose};

use crate::NamespaceOptions;

impl NamespaceOptions {
    // ANCHOR: time
    /// Moves the clocks of the time namespace that the next child will be born into (man 7 time_namespaces).
    ///
    /// This is the parent's work: the offsets can be written only while no process is in the new namespace yet.
    ///
    /// # Errors
    /// ERANGE if a clock would show a time before the boot, or centuries later. EPERM without CAP_SYS_TIME.
    pub fn set_clocks(&self) -> Result<()> {
        let clocks = [("boottime", self.boottime), ("monotonic", self.monotonic)];
        let asked = clocks.iter().filter_map(|(clock, seconds)| seconds.map(|seconds| (clock, seconds)));
        for (index, (clock, seconds)) in asked.enumerate() {
            if index == 0 {
                purpose("clocks of its own, set while no process is in its namespace");
                clone::unshare_time().context("cannot make a time namespace")?;
            }
            clone::write_file("/proc/self/timens_offsets", &format!("{clock} {seconds} 0"))
                .hint_on(Errno::ERANGE, "no clock may show a time before the machine's boot")
                .with_context(|| format!("cannot move the clock {clock} by {seconds} s"))?;
        }
        Ok(())
    }
    // ANCHOR_END: time
}
