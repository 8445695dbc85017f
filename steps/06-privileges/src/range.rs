//! A range of ids, by the numbers that they have in the cell and on the host.

/// `count` ids of the cell, from `inside` on, are those from `outside` on of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first id in the cell.
    pub inside: u32,
    /// The first id on the host.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl Range {
    /// The host's number for an id of the cell, if it is in this range.
    pub(crate) fn outside_of(&self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.inside).filter(|offset| *offset < self.count)?;
        self.outside.checked_add(offset)
    }

    /// Whether an id of the host is in both.
    pub(crate) fn overlaps(&self, other: &Range) -> bool {
        let end = |range: &Range| u64::from(range.outside) + u64::from(range.count);
        u64::from(self.outside) < end(other) && u64::from(other.outside) < end(self)
    }
}
