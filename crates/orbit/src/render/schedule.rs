//! The next firings of run profiles.

use serde_json::Value;

use super::fields::{items, some_text, text, time};
use super::list::{Column, Give, table};
use super::{Terminal, text as shown};

const FIRINGS: &[Column] = &[
    Column { title: "LOCAL TIME", cell: |it, _| local(it).0, give: Give::Never },
    Column { title: "ZONE", cell: |it, _| local(it).1, give: Give::Leave(1) },
    Column {
        title: "DUE",
        cell: |it, out| time(it, "due").map(|at| out.when(at)).unwrap_or_default(),
        give: Give::Leave(2),
    },
    Column { title: "RUN PROFILE", cell: |it, _| text(it, "run_profile"), give: Give::Never },
    Column { title: "NAMESPACE", cell: |it, _| text(it, "namespace"), give: Give::Leave(4) },
    Column { title: "NOTE", cell: |it, _| note(it), give: Give::Leave(3) },
];

/// One firing a line, in the order in which they are due.
pub fn schedule_preview(answer: &Value, out: &Terminal) -> String {
    table(FIRINGS, items(answer, "items"), out)
}

/// RFC 9557 writes the zone in brackets behind the RFC 3339 instant.
fn local(firing: &Value) -> (String, String) {
    let local = text(firing, "local");
    let (instant, zone) = local.split_once('[').unwrap_or((&local, ""));
    (instant.to_owned(), zone.trim_end_matches(']').to_owned())
}

fn note(firing: &Value) -> String {
    some_text(firing, "note").map(|note| shown::fit(&note, 60)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::tests::terminal;
    use super::*;
    use serde_json::json;

    #[test]
    fn firings() {
        let answer = json!({ "items": [
            { "nominal": "2026-03-29T01:00:00Z", "due": "2026-03-29T01:00:40Z", "local": "2026-03-29T03:00:00+02:00[Europe/Berlin]",
              "note": "shifted by the gap", "run_profile": "daily", "namespace": "studio" },
            { "nominal": "2026-03-30T00:30:00Z", "due": "2026-03-30T00:30:00Z", "local": "2026-03-30T02:30:00+02:00[Europe/Berlin]",
              "note": null, "run_profile": "daily", "namespace": "studio" },
        ] });
        let expected = "\
LOCAL TIME                 ZONE           DUE                   RUN PROFILE  NAMESPACE  NOTE
2026-03-29T03:00:00+02:00  Europe/Berlin  2026-03-29T01:00:40Z  daily        studio     shifted by the gap
2026-03-30T02:30:00+02:00  Europe/Berlin  2026-03-30T00:30:00Z  daily        studio
";
        assert_eq!(schedule_preview(&answer, &terminal(None)), expected);
        let narrow = schedule_preview(&answer, &terminal(Some(60)));
        assert_eq!(narrow.lines().next(), Some("LOCAL TIME                 ZONE           RUN PROFILE"));
    }
}
