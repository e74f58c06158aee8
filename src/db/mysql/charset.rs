//! Charsets as far as copying bytes goes: whether text of one is, byte for byte, the same text in another.

/// The canonical name: MySQL's `utf8` is `utf8mb3`.
pub fn canonical(name: &str) -> &str {
    if name.eq_ignore_ascii_case("utf8") { "utf8mb3" } else { name }
}

/// Whether bytes of charset `from` may be stored as they are in a column of charset `to`. An unknown source charset
/// (the log does not say) is taken for the target's: there is nothing to convert from.
pub fn same_bytes(from: &str, to: &str) -> bool {
    let (from, to) = (canonical(from), canonical(to));
    if from.is_empty() || from.eq_ignore_ascii_case(to) {
        return true;
    }
    match from {
        "ascii" => !matches!(to, "ucs2" | "utf16" | "utf16le" | "utf32" | "swe7" | "binary"),
        "utf8mb3" => to == "utf8mb4",
        _ => false,
    }
}

/// Whether a character may take more than one byte, so that a length in characters is not one in bytes.
pub fn is_multibyte(name: &str) -> bool {
    matches!(
        canonical(name),
        "utf8mb3"
            | "utf8mb4"
            | "ucs2"
            | "utf16"
            | "utf16le"
            | "utf32"
            | "big5"
            | "cp932"
            | "eucjpms"
            | "euckr"
            | "gb18030"
            | "gb2312"
            | "gbk"
            | "sjis"
            | "ujis"
    )
}

/// Whether the canonical encoding is UTF-8.
pub fn is_utf8(name: &str) -> bool {
    matches!(canonical(name), "utf8mb3" | "utf8mb4")
}

/// Whether two different byte strings may be equal keys under a collation, by its name; `true` also for what is not known.
/// Trailing blanks are not looked at: trim them for collations that pad.
pub fn may_fold(collation: &str) -> bool {
    !(collation == "binary" || collation.ends_with("_bin") || collation.ends_with("_nopad_bin"))
}
