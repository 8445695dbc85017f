//! What takes long: faults in every system call, a kill at every moment, and load.

pub mod faults;
pub mod kills;
pub mod load;

/// So many of a list, evenly spread; all of it, if no number is given.
fn sample<T: Clone>(all: &[T], count: Option<usize>) -> Vec<T> {
    let count = count.unwrap_or(all.len()).clamp(1, all.len().max(1));
    all.iter()
        .enumerate()
        .filter(|(at, _)| at * count % all.len().max(1) < count)
        .map(|(_, item)| item.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_sample_is_evenly_spread() {
        let all: Vec<u32> = (0..100).collect();
        assert_eq!(super::sample(&all, Some(4)), [0, 25, 50, 75]);
        assert_eq!(super::sample(&all, None), all);
        assert_eq!(super::sample(&all, Some(1000)).len(), 100);
        assert!(super::sample::<u32>(&[], Some(3)).is_empty());
    }
}
