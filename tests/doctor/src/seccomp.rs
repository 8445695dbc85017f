//! Seccomp: whether the kernel takes filters, in its own word. To try one would be lesson 6.

use crate::check::{Check, Lack};
use crate::read;
use crate::rights::status_field;

/// The line about seccomp.
pub fn check() -> Check {
    Check::new("seccomp", &["privileges", "cellblock"], filters(&read("/proc/self/status")))
}

/// The kernel counts the filters on a process (since Linux 5.9) only if it was built to take any.
fn filters(status: &str) -> Result<String, Lack> {
    match (status_field(status, "Seccomp"), status_field(status, "Seccomp_filters")) {
        (_, Some("0")) => Ok("filter mode".to_owned()),
        (_, Some(count)) => Ok(format!("filter mode; {count} on this process already, as in an engine's container")),
        (Some(_), None) => Err(Lack::new("strict mode only", REMEDY)),
        (None, None) => Err(Lack::new("not in this kernel", REMEDY)),
    }
}

const REMEDY: &str = "boot a distribution's own kernel, or any with CONFIG_SECCOMP_FILTER";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_mode_alone_does_not_do() {
        assert_eq!(filters("Seccomp:\t0\nSeccomp_filters:\t0\n").unwrap(), "filter mode");
        assert!(filters("Seccomp:\t2\nSeccomp_filters:\t1\n").unwrap().contains("1 on this process"));
        assert_eq!(filters("Seccomp:\t0\n").unwrap_err().found, "strict mode only");
        assert_eq!(filters("Name:\tdoctor\n").unwrap_err().found, "not in this kernel");
    }
}
