//! Plots of bars, as text.

use std::fmt::Write as _;

/// One bar.
pub(super) struct Bar {
    /// What it is.
    pub(super) label: String,
    /// How long it is.
    pub(super) value: f64,
    /// Whether it is ORBIT's.
    pub(super) is_own: bool,
}

const WIDTH: usize = 760;
const LABELS: usize = 250;
const NUMBERS: usize = 70;
const ROW: usize = 22;
const HEAD: usize = 36;

/// An image of them, one below the other; the longest takes all the room.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    let height = HEAD + bars.len() * ROW + ROW / 2;
    let room = (WIDTH - LABELS - NUMBERS) as f64;
    let most = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let mut image = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
        <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"10\" y=\"22\" font-size=\"14\" font-weight=\"bold\">{}</text>\n",
        escaped(title)
    );
    for (number, bar) in bars.iter().enumerate() {
        let (top, long) = (HEAD + number * ROW, room * bar.value / most);
        let colour = if bar.is_own { "#1f6feb" } else { "#8b949e" };
        let (base, after) = (top + 14, LABELS as f64 + long + 6.0);
        _ = writeln!(
            image,
            "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{}</text>\
            <rect x=\"{LABELS}\" y=\"{top}\" width=\"{long:.1}\" height=\"{}\" fill=\"{colour}\"/>\
            <text x=\"{after:.1}\" y=\"{base}\">{}</text>",
            LABELS - 8,
            escaped(&bar.label),
            ROW - 4,
            number_of(bar.value)
        );
    }
    image.push_str("</svg>\n");
    image
}

/// With as many digits as say something.
pub(super) fn number_of(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_takes_all_the_room() {
        let bar = |label: &str, value| Bar { label: label.to_owned(), value, is_own: false };
        let image = bars("a < b", &[bar("half", 1.0), bar("all", 2.0)]);
        assert!(image.contains("a &lt; b"));
        assert!(image.contains("width=\"220.0\"") && image.contains("width=\"440.0\""), "{image}");
    }

    #[test]
    fn numbers_have_the_digits_that_say_something() {
        let found = [0.123, 12.34, 1234.5].map(number_of);
        assert_eq!(found, ["0.12", "12.3", "1234"].map(str::to_owned));
    }
}
