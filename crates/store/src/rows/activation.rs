//! Activations of snapshots, as their records tell of them: what was active once may have become active again.

use jiff::Timestamp;
use orbit_core::digest::Digest;
use serde::Deserialize;

use super::Contradiction;
use crate::contract::config::ActivationView;
use crate::contract::view::{Page, PageRequest};

/// Records that one transaction looks through for activations, of which there are few.
const WINDOW_RECORDS: u64 = 100_000;

/// Headers of activations look like this.
pub(crate) const ACTIVATED: &str = "%\"kind\":\"config_activated\"%";

#[derive(Deserialize)]
struct Header {
    at: Timestamp,
    snapshot: Digest,
}

/// What was found so far of a page, from the end of the log towards its beginning.
pub(crate) struct Looking {
    limit: u32,
    /// Records from here on were looked at.
    end: u64,
    is_first_page: bool,
    found: Vec<ActivationView>,
}

impl Looking {
    /// For this page of a log with so many records; none if its cursor is no page's.
    pub(crate) fn of(page: &PageRequest, limit: u32, records: u64) -> Option<Self> {
        let end = page.cursor.as_ref().map_or(Ok(records), |cursor| cursor.parse::<u64>()).ok()?;
        let is_first_page = page.cursor.is_none();
        Some(Self { limit, end: end.min(records), is_first_page, found: Vec::new() })
    }

    /// Where to look next, and for how many; none if the page is full or there is nothing left. One more than the page tells whether there is another.
    pub(crate) fn window(&self) -> Option<(u64, u64, u32)> {
        let found = u32::try_from(self.found.len()).unwrap_or(u32::MAX);
        let missing = (self.limit + 1).saturating_sub(found);
        (self.end > 0 && missing > 0).then(|| (self.end.saturating_sub(WINDOW_RECORDS), self.end, missing))
    }

    /// Positions and headers that the window has, newest first.
    pub(crate) fn saw(
        &mut self,
        (begin, ..): (u64, u64, u32),
        rows: Vec<(u64, String)>,
        active: Option<Digest>,
    ) -> Result<(), Contradiction> {
        for (position, header) in rows {
            let Header { at, snapshot } = serde_json::from_str(&header)
                .map_err(|error| Contradiction(format!("an activation cannot be read: {error}")))?;
            let is_newest = self.is_first_page && self.found.is_empty();
            let active = is_newest && active == Some(snapshot);
            self.found.push(ActivationView { position, digest: snapshot, activated_at: at, active });
        }
        self.end = begin;
        Ok(())
    }

    /// The page.
    pub(crate) fn page(self) -> Page<ActivationView> {
        Page::until(self.found, self.limit, |last| last.position.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_over_windows() {
        let digest = |number: u64| Digest::of(&number.to_be_bytes());
        let positions = [3, 150_000, 150_001, 399_999];
        let mut cursor = None;
        let mut all = Vec::new();
        loop {
            let mut looking = Looking::of(&PageRequest { cursor, limit: 2 }, 2, 400_000).unwrap();
            while let Some(window) = looking.window() {
                let within =
                    positions.iter().rev().filter(|position| (window.0..window.1).contains(position));
                let row = |&position: &u64| {
                    let digest = digest(position % 2);
                    (position, format!("{{\"at\":\"2026-11-25T11:57:00Z\",\"snapshot\":\"{digest}\"}}"))
                };
                let rows = within.take(usize::try_from(window.2).unwrap()).map(row).collect();
                looking.saw(window, rows, Some(digest(1))).unwrap();
            }
            let page = looking.page();
            assert!(page.items.len() <= 2);
            all.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(all.iter().map(|one| one.position).collect::<Vec<_>>(), [399_999, 150_001, 150_000, 3]);
        assert_eq!(all.iter().map(|one| one.active).collect::<Vec<_>>(), [true, false, false, false]);
        let unknown = PageRequest { cursor: Some("unknown".to_owned()), limit: 2 };
        assert!(Looking::of(&unknown, 2, 9).is_none());
    }
}
