//! Makes text that came from outside safe for a terminal, and short.
//!
//! Labels, failures, headers and addresses are written by sources, programs and endpoints. None of their bytes may move the cursor,
//! change colours, or reorder what is read. Structure (newlines, colours) is only ever added by the renderers.

const ESCAPE: char = '\x1b';
/// The one-character form of `ESC [` (ECMA-48).
const CSI: char = '\u{9b}';

/// One line without control characters: escape sequences are gone, white space is a single blank, nothing reorders.
pub fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            ESCAPE => skip_escape(&mut chars),
            CSI => skip_parameters(&mut chars),
            _ if char.is_whitespace() => {
                if !cleaned.ends_with(' ') {
                    cleaned.push(' ');
                }
            }
            _ if is_hidden(char) => {}
            _ => cleaned.push(char),
        }
    }
    cleaned.trim().to_owned()
}

/// As [`clean`], line by line: for messages that are meant to have several lines. Indentation stays.
pub fn clean_lines(text: &str) -> String {
    let line = |line: &str| {
        let indent = line.len() - line.trim_start_matches(' ').len();
        format!("{}{}", &line[..indent], clean(line))
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Whether a character shows nothing and changes how the rest is shown.
pub fn is_hidden(char: char) -> bool {
    char.is_control()
        // Marks, embeddings, overrides and isolates that change the direction of text, and what is not shown at all.
        || matches!(char, '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// The columns that a clean text takes.
pub fn width(text: &str) -> usize {
    console::measure_text_width(text)
}

/// At most this many columns, at least one; what is cut shows as `…`.
pub fn fit(text: &str, columns: usize) -> String {
    console::truncate_str(text, columns.max(1), "…").into_owned()
}

/// Pads with blanks on the right to this many columns.
pub fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// The first 12 hex digits of a digest, or of an id the first 8.
pub fn short(id: &str) -> String {
    match id.strip_prefix("sha256:") {
        Some(hex) => clean(hex).chars().take(12).collect(),
        None => clean(id).chars().take(8).collect(),
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// After `ESC`: a control sequence (`[`), a string (`]`, `P`, `X`, `^`, `_`) up to its end, or a single character.
fn skip_escape(chars: &mut Chars<'_>) {
    match chars.next() {
        Some('[') => skip_parameters(chars),
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(char) = chars.next() {
                if char == '\x07' || char == '\u{9c}' {
                    return;
                }
                if char == ESCAPE {
                    chars.next_if_eq(&'\\');
                    return;
                }
            }
        }
        // Intermediates, then a final character, as in `ESC ( B`.
        Some(' '..='/') => {
            while chars.next_if(|char| (' '..='/').contains(char)).is_some() {}
            chars.next();
        }
        Some(_) | None => {}
    }
}

/// Parameters and intermediates up to and with the final character.
fn skip_parameters(chars: &mut Chars<'_>) {
    while chars.next_if(|char| (' '..='?').contains(char)).is_some() {}
    chars.next_if(|char| ('@'..='~').contains(char));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        let check = |text: &str, expected: &str| assert_eq!(clean(text), expected, "{text:?}");
        check("plain — ünïcode 字", "plain — ünïcode 字");
        check("\x1b[31mred\x1b[0m", "red");
        check("\x1b[2J\x1b[H gone", "gone");
        check("\x1b]0;title\x07rest", "rest");
        check("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link");
        check("\x1bP1;2|data\x1b\\after", "after");
        check("\x1b(Bcharset", "charset");
        check("\u{9b}31mred", "red");
        check("a\r\nb\tc\u{b}d", "a b c d");
        check("a\u{202e}b\u{2066}c\u{200b}d\u{feff}", "abcd");
        check("bell\x07 del\x7f nul\0", "bell del nul");
        check("cut \x1b[31", "cut");
        check("cut \x1b", "cut");
        check("cut \x1b]0;never ends", "cut");
    }

    #[test]
    fn lines_stay_where_they_are_meant() {
        assert_eq!(clean_lines("a\x1b[1m\n  hint: b\r\nc"), "a\n  hint: b\nc");
    }

    #[test]
    fn cut_to_columns() {
        let check = |text: &str, columns: usize, expected: &str| {
            assert_eq!(fit(text, columns), expected);
            assert!(width(&fit(text, columns)) <= columns.max(1));
        };
        check("abc", 3, "abc");
        check("abcd", 3, "ab…");
        check("字字字", 6, "字字字");
        check("字字字", 5, "字字…");
        check("字字字", 4, "字…");
        check("abc", 0, "…");
        assert_eq!(pad("字", 4), "字  ");
    }

    #[test]
    fn short_forms() {
        assert_eq!(short("sha256:ba7816bf8f01cfea414140de"), "ba7816bf8f01");
        assert_eq!(short("3f2a8c1e-6d0a-4c53-9a57-8f6f5a0f1b11"), "3f2a8c1e");
    }
}
