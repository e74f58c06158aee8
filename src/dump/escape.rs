//! Text from a log on its way out: nothing in it may end a JSON string early or control a terminal.
//!
//! What could control a terminal are the C0 and C1 control characters, DEL, and the characters that reorder text
//! (Unicode's Bidi_Control). JSON has escapes for all of them with the same meaning, so JSON output is always safe to look
//! at. Text output shows them as `\n`, `\u{1b}` and the like.

/// How many of the first bytes are printable ASCII that JSON does not escape. 16 bytes at a time where the processor can.
#[inline]
pub fn plain_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{
            _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
        };
        let (blocks, _) = bytes.as_chunks::<16>();
        for block in blocks {
            // SAFETY: SSE2 is part of x86_64, and the unaligned load reads exactly the 16 bytes of `block`.
            let special = unsafe {
                let block = _mm_loadu_si128(block.as_ptr().cast());
                // As signed numbers, bytes from 0x80 are below 0x20 too.
                let control = _mm_cmplt_epi8(block, _mm_set1_epi8(0x20));
                let quote = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'"' as i8));
                let backslash = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'\\' as i8));
                let delete = _mm_cmpeq_epi8(block, _mm_set1_epi8(0x7f));
                _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(control, quote), _mm_or_si128(backslash, delete)))
            };
            if special != 0 {
                return at + special.trailing_zeros() as usize;
            }
            at += 16;
        }
    }
    let rest = bytes.get(at..).unwrap_or(&[]);
    at + rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len())
}

#[inline]
fn is_plain(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\'
}

/// How many of the first bytes of valid UTF-8 may stand in a JSON string as they are: like [`plain_len`], but characters beyond ASCII count
/// too, unless their first byte is one that some controlling character begins with.
#[inline]
fn calm_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{
            _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
        };
        let (blocks, _) = bytes.as_chunks::<16>();
        for block in blocks {
            // SAFETY: SSE2 is part of x86_64, and the unaligned load reads exactly the 16 bytes of `block`.
            let special = unsafe {
                let block = _mm_loadu_si128(block.as_ptr().cast());
                let is = |byte: u8| _mm_cmpeq_epi8(block, _mm_set1_epi8(byte as i8));
                let control = _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(0x1f)), block);
                let ascii = _mm_or_si128(_mm_or_si128(is(b'"'), is(b'\\')), _mm_or_si128(control, is(0x7f)));
                let lead = _mm_or_si128(_mm_or_si128(is(0xc2), is(0xd8)), is(0xe2));
                _mm_movemask_epi8(_mm_or_si128(ascii, lead))
            };
            if special != 0 {
                return at + special.trailing_zeros() as usize;
            }
            at += 16;
        }
    }
    let rest = bytes.get(at..).unwrap_or(&[]);
    let calm = |byte: &u8| !is_plain(*byte) && (*byte < 0x80 || is_suspicious(*byte));
    at + rest.iter().position(calm).unwrap_or(rest.len())
}

/// Whether a character that controls may begin with this byte: C1 with C2, the others of [`controls`] with D8 or E2.
#[inline]
fn is_suspicious(byte: u8) -> bool {
    matches!(byte, 0xc2 | 0xd8 | 0xe2)
}

/// Appends `bytes` as a JSON string with its quotes; `false`, with nothing appended, when they are not UTF-8.
#[inline]
pub fn put_json_string(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let plain = plain_len(bytes);
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let (clean, rest) = bytes.split_at_checked(plain).unwrap_or((bytes, &[]));
    out.extend_from_slice(clean);
    if !rest.is_empty() && !put_json_rest(out, rest) {
        out.truncate(out.len() - plain - 1);
        return false;
    }
    out.push(b'"');
    true
}

/// The part from the first byte that is not plain. Nothing is appended when it is not UTF-8.
fn put_json_rest(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let Ok(text) = simdutf8::basic::from_utf8(bytes) else { return false };
    let mut rest = text;
    loop {
        // A run ends before the first byte of a character, so that the cut is at a boundary.
        let (run, tail) = rest.split_at_checked(calm_len(rest.as_bytes())).unwrap_or((rest, ""));
        out.extend_from_slice(run.as_bytes());
        let Some(c) = tail.chars().next() else { return true };
        if c.is_ascii() {
            put_json_ascii(out, c as u8);
        } else if controls(c) {
            put_json_unit(out, c as u32);
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        rest = tail.get(c.len_utf8()..).unwrap_or("");
    }
}

/// Appends a short text without a call to copy it.
#[inline(always)]
pub fn put_short(out: &mut Vec<u8>, text: &[u8]) {
    let length = text.len();
    if !(4..=32).contains(&length) {
        out.extend_from_slice(text);
        return;
    }
    out.reserve(32);
    let at = out.len();
    // SAFETY: there is room for 32 bytes behind `at`, and `text` has 4 to 32. Each pair of copies covers `length` bytes from both
    // ends, of a width that `length` has at least.
    unsafe {
        let from = text.as_ptr();
        let to = out.as_mut_ptr().add(at);
        if length >= 16 {
            std::ptr::copy_nonoverlapping(from, to, 16);
            std::ptr::copy_nonoverlapping(from.add(length - 16), to.add(length - 16), 16);
        } else if length >= 8 {
            std::ptr::copy_nonoverlapping(from, to, 8);
            std::ptr::copy_nonoverlapping(from.add(length - 8), to.add(length - 8), 8);
        } else {
            std::ptr::copy_nonoverlapping(from, to, 4);
            std::ptr::copy_nonoverlapping(from.add(length - 4), to.add(length - 4), 4);
        }
        out.set_len(at + length);
    }
}

fn put_json_ascii(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        byte if is_plain(byte) => out.push(byte),
        byte => put_json_unit(out, u32::from(byte)),
    }
}

/// `\uXXXX`; what controls lies below 0x10000.
fn put_json_unit(out: &mut Vec<u8>, unit: u32) {
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(hex_digit((unit >> shift) as u8));
    }
}

/// The lower-case hexadecimal digit of the low four bits.
#[inline]
pub fn hex_digit(value: u8) -> u8 {
    let value = value & 15;
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

/// Appends two hexadecimal digits a byte.
pub fn put_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        out.push(hex_digit(byte >> 4));
        out.push(hex_digit(*byte));
    }
}

/// Whether a terminal could act upon the character.
pub fn controls(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Appends text for a terminal, on one line.
pub fn put_terminal(out: &mut Vec<u8>, text: &str) {
    for c in text.chars() {
        match c {
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if controls(c) => out.extend_from_slice(c.escape_unicode().to_string().as_bytes()),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// As [`put_terminal`], for bytes that should be UTF-8; those that are not show as `\xHH`.
pub fn put_terminal_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        put_terminal(out, chunk.valid());
        for byte in chunk.invalid() {
            out.extend_from_slice(b"\\x");
            put_hex(out, &[*byte]);
        }
    }
}

/// A text for a message or a comment, on one line.
pub fn one_line(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    put_terminal(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(bytes: &[u8]) -> Option<String> {
        let mut out = b"x".to_vec();
        let whole = put_json_string(&mut out, bytes);
        assert_eq!(whole, out.len() > 1, "nothing is left behind by a failure");
        whole.then(|| String::from_utf8(out.split_off(1)).unwrap())
    }

    #[test]
    fn any_text_comes_back_from_its_json_string() {
        let mut hostile: Vec<char> = (0..0x3000).filter_map(char::from_u32).collect();
        hostile.extend(['\u{feff}', '\u{10ffff}', '😀']);
        for length in [1, 3, 15, 16, 17, 40] {
            for text in hostile.chunks(length).map(|chunk| chunk.iter().collect::<String>()) {
                let written = json(text.as_bytes()).unwrap();
                assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
                assert!(!written.chars().any(controls), "{written:?}");
            }
        }
    }

    /// The three first bytes are all that [`is_suspicious`] has to know.
    #[test]
    fn every_character_that_controls_begins_with_a_suspicious_byte() {
        for c in ('\u{80}'..=char::MAX).filter(|c| controls(*c)) {
            assert!(is_suspicious(c.encode_utf8(&mut [0; 4]).as_bytes()[0]), "{c:?}");
        }
    }

    #[test]
    fn short_texts_are_copied_whole() {
        let text: Vec<u8> = (0..80).collect();
        for length in 0..text.len() {
            let mut out = vec![9];
            put_short(&mut out, &text[..length]);
            assert_eq!(out[1..], text[..length]);
        }
    }

    #[test]
    fn what_is_not_utf8_is_not_made_a_string() {
        for bytes in [b"\xff".as_slice(), b"abc\xc3", b"0123456789abcdef\xed\xa0\x80", b"\xe2\x80"] {
            assert_eq!(json(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_terminal_sees_no_control_character() {
        let mut out = Vec::new();
        put_terminal_bytes(&mut out, b"a\x1b[2J\x9b\xc2\x9b\x7f\n\xe2\x80\xae\xf0\x9f\x98\x80");
        assert_eq!(String::from_utf8(out).unwrap(), "a\\u{1b}[2J\\x9b\\u{9b}\\u{7f}\\n\\u{202e}\u{1f600}");
    }
}
