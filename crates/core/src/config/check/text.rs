//! Texts whose form another standard gives: header names, variables, media types, paths.

use crate::limits::TEMPLATE_SOURCE_BYTES_MAX;

/// `token` of RFC 9110, section 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A name of an environment variable as POSIX shells accept it.
pub(super) fn is_variable(text: &str) -> bool {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts_well && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// `type/subtype` of RFC 9110, section 8.3.1, with parameters perhaps.
pub(super) fn is_media_type(text: &str) -> bool {
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let named =
        essence.trim_end().split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
    named && parameters.bytes().all(|b| (b' '..=b'~').contains(&b))
}

/// Whether a path, by its text alone, stays below the folder that it is relative to.
pub(super) fn stays_inside(text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains('\0') {
        return Err("expected a path".to_owned());
    }
    if text.starts_with('/') {
        return Err("expected a path relative to the namespace's folder".to_owned());
    }
    if text.split('/').any(|part| part == "..") {
        return Err("the path leaves the namespace's folder".to_owned());
    }
    Ok(())
}

/// Whether a text is a template.
pub(super) fn template(text: &str) -> Result<(), String> {
    crate::template::check(text).map_err(|error| error.to_string())
}

/// Whether a program's arguments can be started: each a text that the system can pass on.
pub(super) fn argument(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("an argument cannot hold a zero byte".to_owned());
    }
    if text.len() > TEMPLATE_SOURCE_BYTES_MAX {
        return Err(format!("an argument has at most {TEMPLATE_SOURCE_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// Whether the first argument names a program: on the `PATH`, below the namespace's folder, or absolute.
pub(super) fn program(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("expected a program".to_owned());
    }
    if text.starts_with('/') || !text.contains('/') { Ok(()) } else { stays_inside(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let check = |holds: fn(&str) -> bool, text: &str, expected: bool| {
            assert_eq!(holds(text), expected, "{text:?}");
        };
        check(is_token, "X-Label", true);
        check(is_token, "X Label", false);
        check(is_token, "", false);
        check(is_variable, "_A1", true);
        check(is_variable, "1A", false);
        check(is_variable, "A=B", false);
        check(is_media_type, "application/json", true);
        check(is_media_type, "text/plain; charset=utf-8", true);
        check(is_media_type, "text", false);
        check(is_media_type, "text/", false);
        check(is_media_type, "text/plain\r\nX: y", false);
        check(is_media_type, "text/plain;\r\nX: y", false);
        check(|text| stays_inside(text).is_ok(), "assets/a.png", true);
        check(|text| stays_inside(text).is_ok(), "a..b/c", true);
        check(|text| stays_inside(text).is_ok(), "/etc/passwd", false);
        check(|text| stays_inside(text).is_ok(), "a/../../b", false);
        check(|text| stays_inside(text).is_ok(), "", false);
        check(|text| program(text).is_ok(), "sh", true);
        check(|text| program(text).is_ok(), "/bin/sh", true);
        check(|text| program(text).is_ok(), "bin/x", true);
        check(|text| program(text).is_ok(), "../x", false);
        check(|text| program(text).is_ok(), " ", false);
    }
}
