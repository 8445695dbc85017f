//! Lists of CPUs, as the kernel and its tools write them: `0-3,7` (man 7 cpuset, List format). Memory nodes are listed so, too.

use std::collections::BTreeSet;

/// The CPUs of a list, each once, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuList(BTreeSet<usize>);

/// No kernel is built for more CPUs (CONFIG_NR_CPUS).
const MOST_CPUS: usize = 8192;

impl CpuList {
    /// Reads a list; `None` if the text is not one. An empty text is not one either.
    pub fn parse(text: &str) -> Option<CpuList> {
        let mut cpus = BTreeSet::new();
        for range in text.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            cpus.extend(first..=last);
        }
        Some(CpuList(cpus))
    }

    /// The CPUs by their numbers.
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        self.0.iter().copied()
    }

    /// As a mask: a bit for each CPU, the lowest byte first.
    pub fn mask(&self) -> Vec<u8> {
        let mut mask = vec![0; self.0.last().map_or(0, |last| last / 8 + 1)];
        self.numbers().for_each(|cpu| mask[cpu / 8] |= 1 << (cpu % 8));
        mask
    }

    /// Whether another list has each of these CPUs.
    pub fn is_part_of(&self, other: &CpuList) -> bool {
        self.0.is_subset(&other.0)
    }

    /// The largest number.
    pub fn last(&self) -> Option<usize> {
        self.0.last().copied()
    }
}

impl FromIterator<usize> for CpuList {
    fn from_iter<T: IntoIterator<Item = usize>>(numbers: T) -> CpuList {
        CpuList(numbers.into_iter().collect())
    }
}

/// Blanks around a number are allowed, as the kernel allows them; a sign is not.
fn number(text: &str) -> Option<usize> {
    let digits = text.trim();
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| is_plain && *number < MOST_CPUS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let numbers = |text: &str| CpuList::parse(text).map(|list| list.numbers().collect::<Vec<_>>());
        assert_eq!(numbers("0-2,7\n"), Some(vec![0, 1, 2, 7]));
        assert_eq!(numbers("7, 1-2,2"), Some(vec![1, 2, 7]));
        for wrong in ["", "\n", "-", "3-0", "0-", "0,,1", "a", "+1", "-1", "0-1-2", "8192", "0-99999999999999999999"] {
            assert_eq!(numbers(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn masks() {
        let mask = |text: &str| CpuList::parse(text).unwrap().mask();
        assert_eq!((mask("0"), mask("1, 8-10")), (vec![1], vec![2, 7]));
    }

    #[test]
    fn parts() {
        let part = |one: &str, of: &str| CpuList::parse(one).unwrap().is_part_of(&CpuList::parse(of).unwrap());
        assert!(part("1,3", "0-3") && !part("1,4", "0-3"));
    }
}
