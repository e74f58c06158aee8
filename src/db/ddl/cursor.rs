//! A cursor over the tokens of one statement.

use super::token::{Dialect, Kind, Lexer, Token};

/// Why a statement could not be followed: what was expected, and what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unclear(pub String);

/// Reads tokens with one token of sight.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
}

/// Most tokens of a statement that is followed: a table of 4,096 columns with all their attributes stays far below.
const TOKENS_MAX: usize = 1 << 20;

impl<'a> Cursor<'a> {
    /// Takes the tokens up to the next semicolon outside quotes, which is taken too. `None` at the end of the text.
    pub fn statement(lexer: &mut Lexer<'a>, text: &'a str) -> Option<Cursor<'a>> {
        let mut tokens = Vec::new();
        loop {
            match lexer.next() {
                None if tokens.is_empty() => return None,
                None => break,
                Some(Token { kind: Kind::Symbol(';'), .. }) if tokens.is_empty() => {}
                Some(Token { kind: Kind::Symbol(';'), .. }) => break,
                Some(token) if tokens.len() < TOKENS_MAX => tokens.push(token),
                Some(_) => {}
            }
        }
        Some(Cursor { text, tokens, at: 0 })
    }

    /// The tokens of a text that holds one statement.
    pub fn new(text: &'a str, dialect: Dialect) -> Cursor<'a> {
        let empty = Cursor { text, tokens: Vec::new(), at: 0 };
        Cursor::statement(&mut Lexer::new(text, 0, dialect), text).unwrap_or(empty)
    }

    /// The tokens from here on as a statement of their own.
    pub fn tail(&self) -> Cursor<'a> {
        Cursor { text: self.text, tokens: self.tokens.get(self.at..).unwrap_or(&[]).to_vec(), at: 0 }
    }

    pub fn position(&self) -> usize {
        self.at
    }

    pub fn rewind(&mut self, position: usize) {
        self.at = position;
    }

    pub fn is_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    /// Passes over a token.
    pub fn bump(&mut self) {
        self.at += 1;
    }

    /// The text of tokens from `from` up to here.
    pub fn text_since(&self, from: usize) -> &'a str {
        let (Some(first), Some(last)) = (self.tokens.get(from), self.tokens.get(self.at.wrapping_sub(1))) else {
            return "";
        };
        self.text.get(first.from..last.to).unwrap_or("")
    }

    /// The word at `ahead` tokens from here, as it stands.
    fn word_at(&self, ahead: usize) -> Option<&'a str> {
        let token = self.tokens.get(self.at + ahead)?;
        if token.kind == Kind::Word { self.text.get(token.from..token.to) } else { None }
    }

    /// The keyword or unquoted name here.
    pub fn word(&self) -> Option<&'a str> {
        self.word_at(0)
    }

    /// Whether these keywords stand here.
    pub fn sees(&self, keywords: &[&str]) -> bool {
        keywords
            .iter()
            .enumerate()
            .all(|(ahead, keyword)| self.word_at(ahead).is_some_and(|word| word.eq_ignore_ascii_case(keyword)))
    }

    /// Takes these keywords if they stand here.
    pub fn takes(&mut self, keywords: &[&str]) -> bool {
        let found = self.sees(keywords);
        if found {
            self.at += keywords.len();
        }
        found
    }

    /// Takes one of these keywords; which.
    pub fn takes_any(&mut self, keywords: &[&'static str]) -> Option<&'static str> {
        let word = self.word()?;
        let found = keywords.iter().copied().find(|keyword| word.eq_ignore_ascii_case(keyword))?;
        self.at += 1;
        Some(found)
    }

    pub fn sees_symbol(&self, symbol: char) -> bool {
        self.peek().is_some_and(|token| token.kind == Kind::Symbol(symbol))
    }

    pub fn takes_symbol(&mut self, symbol: char) -> bool {
        let found = self.sees_symbol(symbol);
        self.at += usize::from(found);
        found
    }

    pub fn expect(&mut self, symbol: char) -> Result<(), Unclear> {
        if self.takes_symbol(symbol) { Ok(()) } else { Err(self.unclear(&format!("`{symbol}`"))) }
    }

    /// An error that says what stands here.
    pub fn unclear(&self, expected: &str) -> Unclear {
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some(token) => {
                let text = self.text.get(token.from..token.to).unwrap_or("");
                format!("`{}`", text.chars().take(40).collect::<String>().escape_debug())
            }
        };
        Unclear(format!("expected {expected}, found {found}"))
    }

    /// A name, quoted or not.
    pub fn name(&mut self) -> Result<String, Unclear> {
        let found = match self.peek() {
            Some(Token { kind: Kind::Quoted(name), .. }) => Some(name.clone()),
            Some(Token { kind: Kind::Word, from, to }) => self.text.get(*from..*to).map(str::to_owned),
            _ => None,
        };
        self.at += usize::from(found.is_some());
        found.ok_or_else(|| self.unclear("a name"))
    }

    /// A name, or a string where a name may be one (charsets, collations, engines).
    pub fn name_or_text(&mut self) -> Result<String, Unclear> {
        if let Some(Token { kind: Kind::Text(text), .. }) = self.peek() {
            let text = text.clone();
            self.at += 1;
            return Ok(text);
        }
        self.name()
    }

    /// `table` or `database.table`.
    pub fn table_name(&mut self, default_database: &str) -> Result<(String, String), Unclear> {
        let first = self.name()?;
        if self.takes_symbol('.') {
            return Ok((first, self.name()?));
        }
        Ok((default_database.to_owned(), first))
    }

    /// A string.
    pub fn text(&mut self) -> Result<String, Unclear> {
        match self.peek() {
            Some(Token { kind: Kind::Text(text), .. }) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            _ => Err(self.unclear("a string")),
        }
    }

    /// A whole number.
    pub fn number(&mut self) -> Result<u64, Unclear> {
        let found = match self.peek() {
            Some(Token { kind: Kind::Number, from, to }) => {
                self.text.get(*from..*to).and_then(|text| text.parse().ok())
            }
            _ => None,
        };
        self.at += usize::from(found.is_some());
        found.ok_or_else(|| self.unclear("a number"))
    }

    /// Passes over what stands between the parenthesis here and its partner.
    pub fn skip_parentheses(&mut self) -> Result<(), Unclear> {
        self.expect('(')?;
        let mut depth = 1;
        while depth > 0 {
            match self.peek().map(|token| &token.kind) {
                None => return Err(self.unclear("`)`")),
                Some(Kind::Symbol('(')) => depth += 1,
                Some(Kind::Symbol(')')) => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Passes over everything up to a comma or closing parenthesis outside parentheses, or the end.
    pub fn skip_item(&mut self) -> Result<(), Unclear> {
        loop {
            match self.peek().map(|token| &token.kind) {
                None | Some(Kind::Symbol(',' | ')')) => return Ok(()),
                Some(Kind::Symbol('(')) => self.skip_parentheses()?,
                _ => self.at += 1,
            }
        }
    }
}
