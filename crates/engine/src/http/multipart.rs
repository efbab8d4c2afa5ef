//! Bodies of `multipart/form-data` (RFC 7578), made of pieces so that no part is ever held whole.

use bytes::Bytes;

use super::{Body, Piece};

/// A part of a form.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Its name, of letters, digits and `-`.
    pub(crate) name: &'static str,
    /// Its media type, of visible ASCII.
    pub(crate) media_type: String,
    /// Whether it is offered as a file, which many servers keep apart from fields.
    pub(crate) is_file: bool,
    /// Its bytes.
    pub(crate) content: Piece,
}

/// The media type of the body, which names the boundary, and the body. The boundary must not occur in any part: take a random one.
pub(crate) fn multipart(boundary: &str, parts: Vec<Part>) -> (String, Body) {
    let text = |text: String| Piece::Bytes(Bytes::from(text));
    let mut pieces = Vec::with_capacity(parts.len() * 2 + 1);
    let mut line_end = "";
    for Part { name, media_type, is_file, content } in parts {
        let file = if is_file { format!("; filename=\"{name}\"") } else { String::new() };
        pieces.push(text(format!(
            "{line_end}--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\nContent-Type: {media_type}\r\n\r\n"
        )));
        pieces.push(content);
        line_end = "\r\n";
    }
    pieces.push(text(format!("{line_end}--{boundary}--\r\n")));
    (format!("multipart/form-data; boundary={boundary}"), Body { pieces })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form() {
        let field = |name, content: &'static [u8], is_file| Part {
            name,
            media_type: "text/plain".to_owned(),
            is_file,
            content: Piece::Bytes(Bytes::from_static(content)),
        };
        let (media_type, body) =
            multipart("B", vec![field("context", b"{}", false), field("input", b"x\r\n", true)]);
        assert_eq!(media_type, "multipart/form-data; boundary=B");
        let mut bytes = Vec::new();
        for piece in &body.pieces {
            let Piece::Bytes(piece) = piece else { unreachable!() };
            bytes.extend_from_slice(piece);
        }
        let expected = "--B\r\nContent-Disposition: form-data; name=\"context\"\r\nContent-Type: text/plain\r\n\r\n{}\r\n\
            --B\r\nContent-Disposition: form-data; name=\"input\"; filename=\"input\"\r\nContent-Type: text/plain\r\n\r\nx\r\n\r\n\
            --B--\r\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        assert_eq!(body.bytes(), expected.len() as u64);
    }
}
