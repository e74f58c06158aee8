//! Text from a log on its way out: nothing in it may end a JSON string early or control a terminal.
//!
//! What could control a terminal are the C0 and C1 control characters, DEL, and the characters that reorder text
//! (Unicode's Bidi_Control). JSON has escapes for all of them with the same meaning, so JSON output is always safe to look
//! at. Text output shows them as `\n`, `\u{1b}` and the like.

use super::pen::Pen;

/// What may stand in a JSON string as it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alphabet {
    /// Printable ASCII but for quote and backslash.
    Plain,
    /// Of valid UTF-8: that, and every character whose first byte is not C2, D8 or E2, with which those begin that control.
    Calm,
}

#[inline]
fn is_plain(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\'
}

/// Whether a character that controls may begin with this byte: C1 with C2, the others of [`controls`] with D8 or E2.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn is_suspicious(byte: u8) -> bool {
    matches!(byte, 0xc2 | 0xd8 | 0xe2)
}

/// A bit for each of 16 bytes that may not stand as it is.
#[inline(always)]
fn special(block: &[u8; 16], alphabet: Alphabet) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{
            _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
            _mm_set1_epi8,
        };
        // SAFETY: SSE2 is part of x86_64, and the unaligned load reads exactly the 16 bytes of `block`.
        unsafe {
            let block = _mm_loadu_si128(block.as_ptr().cast());
            let is = |byte: u8| _mm_cmpeq_epi8(block, _mm_set1_epi8(byte as i8));
            let escaped = _mm_or_si128(_mm_or_si128(is(b'"'), is(b'\\')), is(0x7f));
            let others = match alphabet {
                // As signed numbers, bytes from 0x80 are below 0x20 too.
                Alphabet::Plain => _mm_cmplt_epi8(block, _mm_set1_epi8(0x20)),
                Alphabet::Calm => {
                    let control = _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(0x1f)), block);
                    _mm_or_si128(control, _mm_or_si128(_mm_or_si128(is(0xc2), is(0xd8)), is(0xe2)))
                }
            };
            _mm_movemask_epi8(_mm_or_si128(escaped, others)) as u32
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let stands = |byte: u8| is_plain(byte) || alphabet == Alphabet::Calm && byte >= 0x80 && !is_suspicious(byte);
        block.iter().enumerate().fold(0, |mask, (at, byte)| mask | u32::from(!stands(*byte)) << at)
    }
}

/// Appends the first bytes, up to one that may not stand as it is; returns how many.
#[inline]
fn put_run(out: &mut Vec<u8>, bytes: &[u8], alphabet: Alphabet) -> usize {
    let mut pen = Pen::new(out);
    let (blocks, rest) = bytes.as_chunks::<16>();
    for (number, block) in blocks.iter().enumerate() {
        let mask = special(block, alphabet);
        if mask != 0 {
            let length = mask.trailing_zeros() as usize;
            pen.block(block, length);
            return number * 16 + length;
        }
        pen.block(block, 16);
    }
    if rest.is_empty() {
        return bytes.len();
    }
    // The last bytes, shifted to the front of a block.
    let length = rest.len();
    let last = if let Some(block) = bytes.last_chunk::<16>() {
        u128::from_le_bytes(*block) >> (8 * (16 - length))
    } else if let (Some(head), Some(tail)) = (rest.first_chunk::<8>(), rest.last_chunk::<8>()) {
        u128::from(u64::from_le_bytes(*head)) | u128::from(u64::from_le_bytes(*tail)) << (8 * (length - 8))
    } else if let (Some(head), Some(tail)) = (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        u128::from(u32::from_le_bytes(*head)) | u128::from(u32::from_le_bytes(*tail)) << (8 * (length - 4))
    } else {
        u128::from(rest.iter().rev().fold(0u32, |number, byte| number << 8 | u32::from(*byte)))
    };
    let last = last.to_le_bytes();
    let mask = special(&last, alphabet) & ((1 << length) - 1);
    let length = if mask == 0 { length } else { mask.trailing_zeros() as usize };
    pen.block(&last, length);
    blocks.len() * 16 + length
}

/// Appends `bytes` as a JSON string with its quotes; `false`, with nothing appended, when they are not UTF-8.
#[inline]
pub fn put_json_string(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let start = out.len();
    out.push(b'"');
    let plain = put_run(out, bytes, Alphabet::Plain);
    if plain < bytes.len() && !put_json_rest(out, bytes.get(plain..).unwrap_or(&[])) {
        out.truncate(start);
        return false;
    }
    out.push(b'"');
    true
}

/// The part from the first byte that is not plain. `false`: it is not UTF-8.
fn put_json_rest(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let Ok(text) = simdutf8::basic::from_utf8(bytes) else { return false };
    let mut rest = text;
    loop {
        // A run ends before the first byte of a character, so that the cut is at a boundary.
        let run = put_run(out, rest.as_bytes(), Alphabet::Calm);
        let tail = rest.get(run..).unwrap_or("");
        let Some(c) = tail.chars().next() else { return true };
        put_json_char(out, c);
        rest = tail.get(c.len_utf8()..).unwrap_or("");
    }
}

/// Appends a string of single bytes, of which the upper 128 stand for these characters ([`char::REPLACEMENT_CHARACTER`]: for none); `false`, with
/// nothing appended, when it has one that stands for none.
pub fn put_json_single(out: &mut Vec<u8>, bytes: &[u8], upper: &[char; 128]) -> bool {
    let start = out.len();
    out.push(b'"');
    let mut rest = bytes;
    loop {
        let run = put_run(out, rest, Alphabet::Plain);
        let Some((&byte, tail)) = rest.get(run..).and_then(<[u8]>::split_first) else { break };
        match byte.checked_sub(0x80).and_then(|high| upper.get(usize::from(high))) {
            None => put_json_ascii(out, byte),
            Some(&char::REPLACEMENT_CHARACTER) => {
                out.truncate(start);
                return false;
            }
            Some(character) => put_json_char(out, *character),
        }
        rest = tail;
    }
    out.push(b'"');
    true
}

#[inline]
fn put_json_char(out: &mut Vec<u8>, c: char) {
    if c.is_ascii() {
        put_json_ascii(out, c as u8);
    } else if controls(c) {
        put_json_unit(out, c as u32);
    } else {
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

/// Appends a JSON text as it is, but for characters that control: these can only stand in its strings, where JSON has escapes for them.
pub fn put_json_document(out: &mut Vec<u8>, text: &str) {
    for c in text.chars() {
        match c {
            // Between values they are white space.
            '\n' | '\r' | '\t' => out.push(b' '),
            c if controls(c) => put_json_unit(out, c as u32),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
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

    #[test]
    fn runs_of_every_length_end_where_they_must() {
        for length in 0..50 {
            for at in 0..=length {
                let mut text = vec![b'a'; length];
                if let Some(byte) = text.get_mut(at) {
                    *byte = b'"';
                }
                let mut out = b"x".to_vec();
                assert_eq!(put_run(&mut out, &text, Alphabet::Plain), at.min(length));
                assert_eq!(out[1..], text[..at]);
                let mut quoted = Vec::new();
                assert!(put_json_string(&mut quoted, &text));
                assert_eq!(serde_json::from_slice::<String>(&quoted).unwrap().as_bytes(), text);
            }
        }
    }

    #[test]
    fn single_bytes_become_the_characters_that_they_stand_for() {
        let mut upper = ['\u{e9}'; 128];
        upper[1] = char::REPLACEMENT_CHARACTER;
        upper[2] = '\u{9b}';
        let single = |bytes: &[u8]| {
            let mut out = Vec::new();
            put_json_single(&mut out, bytes, &upper).then(|| String::from_utf8(out).unwrap())
        };
        assert_eq!(single(b"a\"\x80\n").unwrap(), "\"a\\\"\u{e9}\\n\"");
        assert_eq!(single(b"\x82").unwrap(), "\"\\u009b\"");
        assert_eq!(single(b"0123456789abcdef\x81"), None);
    }

    /// The three first bytes are all that [`is_suspicious`] has to know.
    #[test]
    fn every_character_that_controls_begins_with_a_suspicious_byte() {
        for c in ('\u{80}'..=char::MAX).filter(|c| controls(*c)) {
            assert!(is_suspicious(c.encode_utf8(&mut [0; 4]).as_bytes()[0]), "{c:?}");
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
