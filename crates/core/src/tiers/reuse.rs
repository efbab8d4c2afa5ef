//! The name of a piece of work, so that the same work can be told again.

use serde::Serialize;

use crate::canonical;
use crate::digest::Digest;

/// Everything that the output of a processor with `reuse: true` may depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Work<'a> {
    /// The digest of the processor's settings: its whole document.
    pub settings: Digest,
    /// The input's digest; none if there is no step before.
    pub input: Option<Digest>,
    /// The reference asset's digest, if there is one.
    pub reference: Option<Digest>,
    /// The arguments, with the names of paths in place of the paths, which no two attempts share.
    pub argv: &'a [String],
    /// The digest of the context line, if the program can see it.
    pub context: Option<Digest>,
}

impl Work<'_> {
    /// SHA-256 of the canonical form: equal work has an equal key.
    pub fn key(&self) -> Digest {
        Digest::of(canonical::to_string(self).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_differs_is_other_work() {
        let argv = ["cat".to_owned(), "{{ input }}".to_owned()];
        let digest = |text: &str| Digest::of(text.as_bytes());
        let work = Work {
            settings: digest("s"),
            input: Some(digest("i")),
            reference: None,
            argv: &argv,
            context: None,
        };
        assert_eq!(work.key(), work.clone().key());
        let check = |other: Work<'_>| assert_ne!(other.key(), work.key(), "{other:?}");
        check(Work { settings: digest("t"), ..work.clone() });
        check(Work { input: Some(digest("j")), ..work.clone() });
        check(Work { input: None, ..work.clone() });
        check(Work { input: None, reference: Some(digest("i")), ..work.clone() });
        check(Work { argv: &argv[..1], ..work.clone() });
        check(Work { context: Some(digest("c")), ..work.clone() });
    }
}
