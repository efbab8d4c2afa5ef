//! Bodies that leave by age.

/// A body that may leave.
pub(crate) struct OldBody {
    /// The position of its record.
    pub(crate) position: u64,
    /// Its length.
    pub(crate) bytes: u64,
}

/// First and last of each gapless stretch.
pub(crate) fn ranges(bodies: &[OldBody]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for body in bodies {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == body.position => *last = body.position,
            Some(_) | None => ranges.push((body.position, body.position)),
        }
    }
    ranges
}
