//! The words of the documents: the ones that come close, and the ones that later versions will know.

/// What section 8 of the contract names and this version does not build: the schema that would hold it, and the word.
const LATER: [(&str, &str); 7] = [
    ("Listen", "public_url"),
    ("Caps", "runs_per_day"),
    ("Caps", "deliveries_per_hour"),
    ("Caps", "artifact_bytes_per_day"),
    ("Synthesis", "processor"),
    ("Choose", "processor"),
    ("Completion", "callback"),
];

/// Words that belong into another file: the schema where they stand wrongly, the word, and what to do.
const ELSEWHERE: [(&str, &str, &str); 2] = [
    ("NodeConfig", "notify", "it belongs to a namespace: write it into its `namespace.yaml`"),
    ("NamespaceConfig", "heartbeat", "it belongs to the node: write it into `orbit.yaml`"),
];

/// Where a word that is unknown here belongs, if anywhere.
pub(super) fn elsewhere(schema: &str, word: &str) -> Option<&'static str> {
    ELSEWHERE.iter().find(|(here, known, _)| (*here, *known) == (schema, word)).map(|(_, _, hint)| *hint)
}

/// Whether the contract names this word here and this version does not build it.
pub(super) fn is_later(schema: &str, word: &str) -> bool {
    LATER.contains(&(schema, word))
}

/// The known word that is nearest, if one is near enough to be meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (word.chars().count() / 3).max(1);
    let word = word.to_ascii_lowercase();
    let near = known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&word, &known.to_ascii_lowercase()), known));
    near.filter(|(distance, _)| *distance <= bound).min().map(|(_, known)| known)
}

/// Words in backticks, joined by commas.
pub(super) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// What to write instead of an unknown word.
pub(crate) fn suggestion(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known here: {}", listed(known.iter().copied())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words() {
        let known = ["source", "choose", "dedupe"];
        let check = |word: &str, expected: Option<&str>| assert_eq!(nearest(word, known), expected, "{word}");
        check("sorce", Some("source"));
        check("suorce", Some("source"));
        check("Source", Some("source"));
        check("deduplicate", None);
        check("x", None);
    }
}
