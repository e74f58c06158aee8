//! Words of an SQL text in MySQL's and MariaDB's dialects.
//!
//! Comments fall away, except that what stands in executable ones (`/*!50100 … */`, `/*M! … */`) counts as if it stood outside,
//! unless it is meant for another family or a version that does not exist. Strings and quoted names may be of any style that `sql_mode`
//! allows. No input is an error here: an unclosed quote ends with the text.

/// What the lexer must know about the session that wrote a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dialect {
    /// `"` quotes names (sql_mode ANSI_QUOTES).
    pub ansi_quotes: bool,
    /// A backslash in a string is one (sql_mode NO_BACKSLASH_ESCAPES).
    pub no_backslash: bool,
    /// `None`: not known.
    pub mariadb: Option<bool>,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name or keyword without quotes; its text is the token's span.
    Word,
    /// A quoted name, without its quotes.
    Quoted(String),
    /// A string, without its quotes and escapes.
    Text(String),
    /// A number.
    Number,
    /// Any other character.
    Symbol(char),
}

/// A token and where it stands in the text, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    pub from: usize,
    pub to: usize,
}

/// Walks a text.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    dialect: Dialect,
    /// Executable comments that are open.
    executable: usize,
}

/// The first version of MySQL that MariaDB's executable comments leave out, and the last.
const NOT_MARIADB: std::ops::RangeInclusive<u32> = 50_700..=99_999;
/// From here on a version means MariaDB.
const MARIADB_FIRST: u32 = 100_000;
/// A version that no server has: used to hide text from all.
const NEVER: u32 = 999_999;

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str, at: usize, dialect: Dialect) -> Lexer<'a> {
        Lexer { text, at, dialect, executable: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// Passes over white space and comments.
    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            let rest = trimmed;
            if rest.starts_with('#') || dash_comment(rest) {
                self.at += rest.find('\n').map_or(rest.len(), |end| end + 1);
            } else if rest.starts_with("/*") {
                match self.executable_comment(rest) {
                    Some(length) => {
                        self.executable += 1;
                        self.at += length;
                    }
                    None => self.at += rest.find("*/").map_or(rest.len(), |end| end + 2),
                }
            } else if self.executable > 0 && rest.starts_with("*/") {
                self.executable -= 1;
                self.at += 2;
            } else if rest.starts_with("\\n") || rest.starts_with("\\t") {
                // Line breaks of SHOW CREATE TABLE in the client's batch mode.
                self.at += 2;
            } else {
                return;
            }
        }
    }

    /// Bytes of the opening of an executable comment whose text counts.
    fn executable_comment(&self, rest: &str) -> Option<usize> {
        let (opening, only_mariadb) = if rest.starts_with("/*!") {
            (3, false)
        } else if rest.starts_with("/*M!") {
            (4, true)
        } else {
            return None;
        };
        let tail = rest.get(opening..)?;
        let digits = tail.bytes().take(6).take_while(u8::is_ascii_digit).count();
        // A version has five digits, or six; fewer are text.
        let digits = if digits >= 5 { digits } else { 0 };
        let version: u32 = tail.get(..digits)?.parse().unwrap_or(0);
        let wanted = match self.dialect.mariadb {
            _ if version >= NEVER => false,
            Some(true) => !NOT_MARIADB.contains(&version) || only_mariadb,
            Some(false) => !only_mariadb && version < MARIADB_FIRST,
            None => true,
        };
        wanted.then_some(opening + digits)
    }

    /// The next token; `None` at the end.
    pub fn next(&mut self) -> Option<Token> {
        self.skip();
        let rest = self.rest();
        let from = self.at;
        let first = rest.chars().next()?;
        let token = |kind, length: usize| Some(Token { kind, from, to: from + length });
        let found = match first {
            '`' => {
                let (name, length) = unquote(rest, '`', true);
                token(Kind::Quoted(name), length)
            }
            '"' if self.dialect.ansi_quotes => {
                let (name, length) = unquote(rest, '"', true);
                token(Kind::Quoted(name), length)
            }
            '\'' | '"' => {
                let (text, length) = unquote(rest, first, self.dialect.no_backslash);
                token(Kind::Text(text), length)
            }
            '0'..='9' => {
                let word = word_len(rest);
                let number = number_len(rest);
                // A name may begin with digits (`2nd`), but `1e5` and `0x1F` are numbers.
                if word > number { token(Kind::Word, word) } else { token(Kind::Number, number) }
            }
            '.' if rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) && !self.follows_name() => {
                token(Kind::Number, number_len(rest))
            }
            _ if is_word(first) => token(Kind::Word, word_len(rest)),
            _ => token(Kind::Symbol(first), first.len_utf8()),
        }?;
        self.at = found.to;
        Some(found)
    }

    /// Whether a point here stands behind a name, as in `db.1st`.
    fn follows_name(&self) -> bool {
        let before = self.text.get(..self.at).and_then(|text| text.chars().next_back());
        before.is_some_and(|c| is_word(c) || c == '`' || c == '"')
    }
}

fn dash_comment(rest: &str) -> bool {
    rest.strip_prefix("--").is_some_and(|tail| tail.chars().next().is_none_or(|c| c.is_whitespace() || c.is_control()))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || c == '@' || c as u32 >= 0x80
}

fn word_len(text: &str) -> usize {
    text.find(|c: char| !is_word(c)).unwrap_or(text.len())
}

/// Bytes of a number at the start: hexadecimal, or decimal with fraction and exponent.
fn number_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    if let Some(tail) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0b")) {
        return 2 + tail.bytes().take_while(u8::is_ascii_hexdigit).count();
    }
    let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') {
        end += 1 + digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    end.max(1)
}

/// What stands in quotes at the start, and the bytes that it takes with them. A doubled quote is one.
fn unquote(text: &str, quote: char, no_backslash: bool) -> (String, usize) {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            if chars.peek().is_some_and(|(_, next)| *next == quote) {
                chars.next();
                out.push(quote);
                continue;
            }
            return (out, at + c.len_utf8());
        }
        if c == '\\' && !no_backslash {
            if let Some((_, escaped)) = chars.next() {
                out.push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'b' => '\u{8}',
                    '0' => '\0',
                    'Z' => '\u{1a}',
                    other => other,
                });
            }
            continue;
        }
        out.push(c);
    }
    (out, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, dialect: Dialect) -> Vec<String> {
        let mut lexer = Lexer::new(text, 0, dialect);
        let mut out = Vec::new();
        while let Some(token) = lexer.next() {
            out.push(match token.kind {
                Kind::Word => text[token.from..token.to].to_owned(),
                Kind::Number => format!("#{}", &text[token.from..token.to]),
                Kind::Quoted(name) => format!("`{name}"),
                Kind::Text(text) => format!("'{text}"),
                Kind::Symbol(c) => c.to_string(),
            });
        }
        out
    }

    #[test]
    fn every_style_of_quoting_is_read() {
        let plain = Dialect::default();
        assert_eq!(words("a `b``c` 'd''e\\'f' \"g\"", plain), ["a", "`b`c", "'d'e'f", "'g"]);
        assert_eq!(words("\"g\"", Dialect { ansi_quotes: true, ..plain }), ["`g"]);
        assert_eq!(words(r"'a\' b", Dialect { no_backslash: true, ..plain }), [r"'a\", "b"]);
        assert_eq!(
            words("1.5e3 0x1F .5 d.1st 2nd -3", plain),
            ["#1.5e3", "#0x1F", "#.5", "d", ".", "1st", "2nd", "-", "#3"]
        );
        assert_eq!(words("`open 'x", plain), ["`open 'x"]);
        assert_eq!(words("naïve été", plain), ["naïve", "été"]);
    }

    #[test]
    fn comments_fall_away_and_executable_ones_count_for_their_family() {
        let text = "a -- x\nb # y\nc /* z */ d /*!50100 e */ f /*!80023 g */ /*M!100201 h */ /*!999999 i */ j --k";
        let of = |mariadb| words(text, Dialect { mariadb, ..Dialect::default() }).join(" ");
        assert_eq!(of(None), "a b c d e f g h j - - k");
        assert_eq!(of(Some(false)), "a b c d e f g j - - k");
        assert_eq!(of(Some(true)), "a b c d e f h j - - k");
        assert_eq!(words("/* never closed", Dialect::default()), [""; 0]);
    }
}
