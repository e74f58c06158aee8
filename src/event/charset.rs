//! Charsets and collations of MySQL and MariaDB: numbers to names, and bytes to UTF-8.
//!
//! Single-byte charsets go by the servers' own tables, multi-byte ones by `encoding_rs`. Bytes that are not valid in their charset are never
//! replaced: [`decode`] then says so and the caller shows the bytes themselves.

use std::borrow::Cow;
use std::sync::OnceLock;

use encoding_rs::Encoding;

#[path = "charset_tables.rs"]
mod tables;

/// First number of MariaDB's collations without padding; it is the padded one's number plus this.
const NOPAD: u32 = 1024;
/// First number of MariaDB's uca1400 collations.
const UCA1400: u32 = 2048;
/// Charsets of the uca1400 collations, 256 numbers each.
const UCA1400_CHARSETS: [&str; 5] = ["utf8mb3", "utf8mb4", "ucs2", "utf16", "utf32"];

/// Every charset with the most bytes that a character takes, as `information_schema.character_sets` has them.
const CHARSETS: &[(&str, u8)] = &[
    ("armscii8", 1),
    ("ascii", 1),
    ("big5", 2),
    ("binary", 1),
    ("cp1250", 1),
    ("cp1251", 1),
    ("cp1256", 1),
    ("cp1257", 1),
    ("cp850", 1),
    ("cp852", 1),
    ("cp866", 1),
    ("cp932", 2),
    ("dec8", 1),
    ("eucjpms", 3),
    ("euckr", 2),
    ("gb18030", 4),
    ("gb2312", 2),
    ("gbk", 2),
    ("geostd8", 1),
    ("greek", 1),
    ("hebrew", 1),
    ("hp8", 1),
    ("keybcs2", 1),
    ("koi8r", 1),
    ("koi8u", 1),
    ("latin1", 1),
    ("latin2", 1),
    ("latin5", 1),
    ("latin7", 1),
    ("macce", 1),
    ("macroman", 1),
    ("sjis", 2),
    ("swe7", 1),
    ("tis620", 1),
    ("ucs2", 2),
    ("ujis", 3),
    ("utf16", 4),
    ("utf16le", 4),
    ("utf32", 4),
    ("utf8mb3", 3),
    ("utf8mb4", 4),
];

/// The charset's own name for a name that a server accepts (`utf8` is `utf8mb3`, in any case of letters); `None`: no such charset.
pub fn canonical(name: &str) -> Option<&'static str> {
    let name = if name.eq_ignore_ascii_case("utf8") { "utf8mb3" } else { name };
    CHARSETS.iter().map(|(known, _)| *known).find(|known| known.eq_ignore_ascii_case(name))
}

/// The most bytes that a character of the charset takes; 1 for an unknown one.
pub fn bytes_per_character(charset: &str) -> u32 {
    CHARSETS.iter().find(|(name, _)| *name == charset).map_or(1, |(_, bytes)| u32::from(*bytes))
}

/// The charset of a collation number. The families agree on it.
pub fn charset_of(collation: u32) -> Option<&'static str> {
    if collation >= UCA1400 {
        return UCA1400_CHARSETS.get((collation - UCA1400) as usize / 256).copied();
    }
    let base = if collation >= NOPAD { collation - NOPAD } else { collation };
    charset_of_collation(name_of(base)?)
}

/// The charset of a collation's name: what stands before its first underscore.
pub fn charset_of_collation(name: &str) -> Option<&'static str> {
    canonical(name.split('_').next()?)
}

fn name_of(number: u32) -> Option<&'static str> {
    let number = u16::try_from(number).ok()?;
    let at = tables::COLLATIONS.binary_search_by_key(&number, |(number, _)| *number).ok()?;
    tables::COLLATIONS.get(at).map(|(_, name)| *name)
}

/// A collation's name by its number, as the family calls it.
pub fn collation_name(number: u32, mariadb: bool) -> Option<Cow<'static, str>> {
    if number >= UCA1400 {
        let (rest, flags) = ((number - UCA1400) / 8, number % 8);
        let (charset, language) = (UCA1400_CHARSETS.get(rest as usize / 32)?, rest % 32);
        let (_, language) = tables::UCA1400.iter().find(|(number, _)| u32::from(*number) == language)?;
        let language = if language.is_empty() { String::new() } else { format!("_{language}") };
        let (pad, accents, case) = (
            ["", "_nopad"][flags as usize >> 2 & 1],
            ["_ai", "_as"][flags as usize >> 1 & 1],
            ["_ci", "_cs"][flags as usize & 1],
        );
        return Some(format!("{charset}_uca1400{language}{pad}{accents}{case}").into());
    }
    if number >= NOPAD {
        let (head, tail) = name_of(number - NOPAD)?.rsplit_once('_')?;
        return Some(format!("{head}_nopad_{tail}").into());
    }
    if mariadb {
        let own = tables::COLLATIONS_MARIADB.iter().find(|(own, _)| u32::from(*own) == number);
        if let Some((_, name)) = own {
            return Some((*name).into());
        }
    }
    name_of(number).map(Cow::Borrowed)
}

/// A collation's number by its name; `utf8_` is read as `utf8mb3_`.
pub fn collation_number(name: &str, mariadb: bool) -> Option<u32> {
    let mut name = name.to_ascii_lowercase();
    if let Some(rest) = name.strip_prefix("utf8_") {
        name = format!("utf8mb3_{rest}");
    }
    if let Some((charset, rest)) = name.split_once("_uca1400") {
        let charset = UCA1400_CHARSETS.iter().position(|known| *known == charset)? as u32;
        let first = UCA1400 + charset * 256;
        let wanted = format!("{}_uca1400{rest}", UCA1400_CHARSETS.get(charset as usize)?);
        return (first..first + 256).find(|number| collation_name(*number, true).as_deref() == Some(&wanted));
    }
    if mariadb {
        if let Some(base) = name.contains("_nopad_").then(|| name.replacen("_nopad_", "_", 1)) {
            return Some(collation_number(&base, true)? + NOPAD);
        }
        if let Some((number, _)) = tables::COLLATIONS_MARIADB.iter().find(|(_, own)| *own == name) {
            return Some(u32::from(*number));
        }
        // The names that only MySQL gives to those numbers have other numbers in MariaDB.
        let hidden = |number: u16| tables::COLLATIONS_MARIADB.iter().any(|(own, _)| *own == number);
        let found = tables::COLLATIONS.iter().find(|(number, known)| *known == name && !hidden(*number));
        return found.map(|(number, _)| u32::from(*number));
    }
    tables::COLLATIONS.iter().find(|(_, known)| *known == name).map(|(number, _)| u32::from(*number))
}

/// The collation that columns of a charset have when none is named. MySQL 8's `utf8mb4` and MariaDB's Unicode charsets since 11.5 differ by version and
/// configuration; this is what all older servers have.
pub fn default_collation(charset: &str) -> Option<&'static str> {
    let charset = canonical(charset)?;
    tables::DEFAULT_COLLATIONS.iter().find(|name| charset_of_collation(name) == Some(charset)).copied()
}

/// How to read a charset's bytes.
#[derive(Clone, Copy, Debug)]
pub enum Decoder {
    /// They are UTF-8 if they are valid (utf8mb3 and utf8mb4; also what is tried when the charset is not known).
    Utf8,
    /// One character a byte: the upper 128.
    Single(&'static [char; 128]),
    /// swe7, which has letters among the lower 128.
    Swe7,
    /// ASCII alone.
    Ascii,
    /// An encoding of the library.
    Library(&'static Encoding),
    /// Four bytes a character, big-endian.
    Utf32,
    /// Bytes that are no characters.
    Binary,
}

/// How to read a charset by its canonical name; the empty name is an unknown charset.
#[inline]
pub fn decoder(charset: &str) -> Decoder {
    match charset {
        "utf8mb4" | "utf8mb3" | "" => Decoder::Utf8,
        "binary" => Decoder::Binary,
        _ => decoder_of_rare(charset),
    }
}

fn decoder_of_rare(charset: &str) -> Decoder {
    match charset {
        "ascii" => Decoder::Ascii,
        "swe7" => Decoder::Swe7,
        "utf32" => Decoder::Utf32,
        "big5" => Decoder::Library(encoding_rs::BIG5),
        "gbk" | "gb2312" => Decoder::Library(encoding_rs::GBK),
        "gb18030" => Decoder::Library(encoding_rs::GB18030),
        "sjis" | "cp932" => Decoder::Library(encoding_rs::SHIFT_JIS),
        "ujis" | "eucjpms" => Decoder::Library(encoding_rs::EUC_JP),
        "euckr" => Decoder::Library(encoding_rs::EUC_KR),
        "ucs2" | "utf16" => Decoder::Library(encoding_rs::UTF_16BE),
        "utf16le" => Decoder::Library(encoding_rs::UTF_16LE),
        "utf8" => Decoder::Utf8,
        _ => single(charset).map_or(Decoder::Utf8, Decoder::Single),
    }
}

fn single(charset: &str) -> Option<&'static [char; 128]> {
    static TABLES: OnceLock<Vec<(&str, [char; 128])>> = OnceLock::new();
    let tables = TABLES.get_or_init(|| {
        let table = |text: &str| {
            let mut out = [char::REPLACEMENT_CHARACTER; 128];
            out.iter_mut().zip(text.chars()).for_each(|(to, from)| *to = from);
            out
        };
        tables::SINGLE_BYTE.iter().map(|(name, text)| (*name, table(text))).collect()
    });
    tables.iter().find(|(name, _)| *name == charset).map(|(_, table)| table)
}

impl Decoder {
    /// The bytes as UTF-8: themselves when they are, else written to `scratch` (which is cleared). `None`: they are not valid in the charset, or no
    /// characters at all.
    #[inline]
    pub fn utf8<'a>(self, bytes: &'a [u8], scratch: &'a mut Vec<u8>) -> Option<&'a str> {
        match self {
            Decoder::Utf8 => std::str::from_utf8(bytes).ok(),
            Decoder::Binary => None,
            _ => self.convert(bytes, scratch),
        }
    }

    fn convert<'a>(self, bytes: &'a [u8], scratch: &'a mut Vec<u8>) -> Option<&'a str> {
        let ascii_alike = !matches!(self, Decoder::Swe7 | Decoder::Utf32)
            && !matches!(self, Decoder::Library(encoding) if !encoding.is_ascii_compatible());
        if ascii_alike && bytes.is_ascii() {
            return std::str::from_utf8(bytes).ok();
        }
        scratch.clear();
        match self {
            Decoder::Ascii => return None,
            Decoder::Single(table) => {
                scratch.reserve(bytes.len() * 2);
                for byte in bytes {
                    match byte.checked_sub(0x80).and_then(|high| table.get(usize::from(high))) {
                        None => scratch.push(*byte),
                        Some(&char::REPLACEMENT_CHARACTER) => return None,
                        Some(character) => push(scratch, *character),
                    }
                }
            }
            Decoder::Swe7 => {
                for byte in bytes {
                    match tables::SWE7.iter().find(|(own, _)| own == byte) {
                        Some((_, character)) => push(scratch, *character),
                        None if byte.is_ascii() => scratch.push(*byte),
                        None => return None,
                    }
                }
            }
            Decoder::Utf32 => {
                for raw in bytes.chunks(4) {
                    push(scratch, char::from_u32(u32::from_be_bytes(raw.try_into().ok()?))?);
                }
            }
            Decoder::Library(encoding) => {
                let text = encoding.decode_without_bom_handling_and_without_replacement(bytes)?;
                scratch.extend_from_slice(text.as_bytes());
            }
            Decoder::Utf8 | Decoder::Binary => return None,
        }
        std::str::from_utf8(scratch).ok()
    }
}

fn push(out: &mut Vec<u8>, character: char) {
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

/// The bytes as text, for names and other short texts; `None` when they are not valid in the charset.
pub fn decode(charset: &str, bytes: &[u8]) -> Option<String> {
    decoder(charset).utf8(bytes, &mut Vec::new()).map(str::to_owned)
}

/// Text as the charset's bytes, for names and other short texts; `None` when it has no such characters. Of an unknown charset: UTF-8.
pub fn encode(charset: &str, text: &str) -> Option<Vec<u8>> {
    let each = |push: &dyn Fn(char, &mut Vec<u8>) -> Option<()>| {
        let mut out = Vec::with_capacity(text.len());
        text.chars().try_for_each(|character| push(character, &mut out))?;
        Some(out)
    };
    match decoder(charset) {
        Decoder::Utf8 | Decoder::Binary => Some(text.as_bytes().to_vec()),
        Decoder::Ascii => text.is_ascii().then(|| text.as_bytes().to_vec()),
        Decoder::Swe7 => each(&|character, out| {
            let own = tables::SWE7.iter().find(|(_, known)| *known == character).map(|(byte, _)| *byte);
            let same = u8::try_from(character).ok().filter(|byte| tables::SWE7.iter().all(|(own, _)| own != byte));
            out.push(own.or(same.filter(u8::is_ascii))?);
            Some(())
        }),
        Decoder::Single(table) => each(&|character, out| {
            let upper = || table.iter().position(|known| *known == character).map(|at| at as u8 + 0x80);
            out.push(if character.is_ascii() { character as u8 } else { upper()? });
            Some(())
        }),
        Decoder::Utf32 => each(&|character, out| {
            out.extend_from_slice(&u32::from(character).to_be_bytes());
            Some(())
        }),
        Decoder::Library(encoding) if encoding == encoding_rs::UTF_16BE => {
            Some(text.encode_utf16().flat_map(u16::to_be_bytes).collect())
        }
        Decoder::Library(encoding) if encoding == encoding_rs::UTF_16LE => {
            Some(text.encode_utf16().flat_map(u16::to_le_bytes).collect())
        }
        Decoder::Library(encoding) => {
            let (bytes, _, unmappable) = encoding.encode(text);
            (!unmappable).then(|| bytes.into_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_of_collations_belong_together() {
        assert_eq!(charset_of(8), Some("latin1"));
        assert_eq!(charset_of(33), Some("utf8mb3"));
        assert_eq!(charset_of(63), Some("binary"));
        assert_eq!(charset_of(255), Some("utf8mb4"));
        assert_eq!(charset_of(1070), Some("utf8mb4"));
        assert_eq!(charset_of(2304), Some("utf8mb4"));
        assert_eq!(charset_of(4000), None);
        assert_eq!(collation_name(1125, true).as_deref(), Some("utf16_unicode_nopad_ci"));
        assert_eq!(collation_name(2060, true).as_deref(), Some("utf8mb3_uca1400_icelandic_nopad_ai_ci"));
        assert_eq!(collation_name(245, false).as_deref(), Some("utf8mb4_croatian_ci"));
        assert_eq!(collation_name(245, true).as_deref(), Some("utf8mb4_croatian_mysql561_ci"));
        for mariadb in [false, true] {
            for number in 0..4096 {
                if let Some(name) = collation_name(number, mariadb).filter(|_| mariadb || number < 512) {
                    let back = collation_number(&name, mariadb).and_then(|number| collation_name(number, mariadb));
                    assert_eq!(back, Some(name.clone()));
                    assert_eq!(charset_of(number), charset_of_collation(&name), "{name}");
                }
            }
        }
    }

    #[test]
    fn every_charset_has_a_default_collation_and_a_decoder() {
        for (charset, _) in CHARSETS {
            assert_eq!(default_collation(charset).and_then(charset_of_collation), Some(*charset));
            let unknown = matches!(decoder(charset), Decoder::Utf8) && !charset.starts_with("utf8");
            assert!(!unknown, "{charset}");
        }
        assert_eq!(canonical("UTF8"), Some("utf8mb3"));
        assert_eq!(canonical("klingon"), None);
    }

    #[test]
    fn bytes_become_the_characters_that_a_server_shows() {
        // Each pair as MySQL 9.7 converts it.
        for (charset, bytes, text) in [
            ("latin1", &b"caf\xe9 \x80 \x81"[..], "café € \u{81}"),
            ("cp850", b"\x81\xa4", "üñ"),
            ("koi8r", b"\xf0\xf2", "ПР"),
            ("swe7", b"[\\a", "ÄÖa"),
            ("utf16", b"\0a\xd8\x3d\xde\x00", "a😀"),
            ("utf16le", b"a\0", "a"),
            ("utf32", b"\0\x01\xf6\0", "😀"),
            ("ucs2", b"\x30\x42", "あ"),
            ("sjis", b"\x82\xa0", "あ"),
            ("ujis", b"\xa4\xa2", "あ"),
            ("gbk", b"\xc4\xe3", "你"),
            ("big5", b"\xa7\x41", "你"),
            ("euckr", b"\xb0\xa1", "가"),
        ] {
            assert_eq!(decode(charset, bytes).as_deref(), Some(text), "{charset}");
            assert_eq!(encode(charset, text).as_deref(), Some(bytes), "{charset}");
        }
        assert_eq!(encode("latin1", "あ"), None);
        assert_eq!(encode("sjis", "💩"), None);
        assert_eq!(encode("swe7", "["), None);
    }

    #[test]
    fn bytes_that_are_not_valid_are_never_replaced() {
        for (charset, bytes) in [
            ("utf8mb4", &b"a\xff"[..]),
            ("ascii", b"\x80"),
            ("cp1257", b"\xa1"),
            ("utf16", b"\0a\xd8"),
            ("utf32", b"\0\0\0"),
            ("utf32", b"\0\x11\0\0"),
            ("sjis", b"\x82"),
            ("binary", b"a"),
        ] {
            assert_eq!(decode(charset, bytes), None, "{charset}");
        }
    }
}
