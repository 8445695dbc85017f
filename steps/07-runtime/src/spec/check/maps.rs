//! Rules for translations of user and group numbers.

use kernel::Failure;

use super::{ensure, refuse};
use crate::spec::IdMapping;

/// As many lines as the kernel takes in one map (man 7 user_namespaces).
const MOST: usize = 340;

/// Checks one map: what `write` to uid_map would refuse with EINVAL, here with the place.
pub fn check(path: &str, map: &[IdMapping]) -> Result<(), Failure> {
    ensure(map.len() <= MOST, path, format_args!("{} ranges, and the kernel takes {MOST}", map.len()))?;
    for (index, range) in map.iter().enumerate() {
        let at = format!("{path}[{index}]");
        ensure(range.size > 0, format_args!("{at}.size"), "must be above 0")?;
        for (name, first) in [("containerID", range.container_id), ("hostID", range.host_id)] {
            let fits = first.checked_add(range.size).is_some();
            ensure(fits, format_args!("{at}.{name}"), "the range goes beyond the largest number")?;
        }
        let mut earlier = map[..index].iter();
        if earlier.any(|other| overlap(other, range, |r| r.container_id) || overlap(other, range, |r| r.host_id)) {
            return Err(refuse(at, "the range overlaps with one before it"));
        }
    }
    Ok(())
}

fn overlap(one: &IdMapping, other: &IdMapping, first: impl Fn(&IdMapping) -> u32) -> bool {
    let end = |range: &IdMapping| u64::from(first(range)) + u64::from(range.size);
    u64::from(first(one)) < end(other) && u64::from(first(other)) < end(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping { container_id, host_id, size }
    }

    #[test]
    fn maps() {
        let good = [range(0, 1000, 1), range(1, 100_000, 65535), range(u32::MAX - 1, 1, 1)];
        assert!(check("map", &good).is_ok());
        for bad in [
            vec![range(0, 0, 0)],
            vec![range(u32::MAX, 0, 1)],
            vec![range(0, u32::MAX, 1)],
            vec![range(0, 0, 10), range(9, 100, 1)],
            vec![range(0, 0, 10), range(100, 9, 1)],
            vec![range(0, 0, 10), range(100, 0, 1)],
            (0..341).map(|id| range(id, id, 1)).collect(),
        ] {
            assert!(check("map", &bad).is_err(), "{bad:?}");
        }
    }
}
