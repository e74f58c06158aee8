//! A connection together with the statements prepared on it.
//!
//! rusqlite's `Statement` borrows its `Connection`, so the two cannot be kept in one struct safely; its own cache looks
//! statements up by their text, at a cost of a third of the whole insert. Here statements are kept in a `Vec` beside the
//! boxed connection, and handed out by number. Safe because the connection neither moves (it is boxed) nor dies before
//! the statements (they are dropped first), and they leave this struct only as borrows of it.

use rusqlite::Statement;

/// Number of a prepared statement of one [`Connection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatementId(usize);

/// See the module's head. Derefs to the plain connection.
pub struct Connection {
    // Dropped before the connection: fields drop in order of declaration.
    statements: Vec<Statement<'static>>,
    connection: Box<rusqlite::Connection>,
}

// SAFETY: the connection is opened with SQLITE_OPEN_NO_MUTEX in a library built thread-safe: it and its statements may move between
// threads as long as no two use them at once. `&mut self` and the lack of Sync see to that; statements never leave.
unsafe impl Send for Connection {}

impl Connection {
    /// Takes a connection over.
    pub fn new(connection: rusqlite::Connection) -> Connection {
        Connection { statements: Vec::new(), connection: Box::new(connection) }
    }

    /// Prepares `sql` and keeps it.
    pub fn prepare(&mut self, sql: &str) -> rusqlite::Result<StatementId> {
        let statement = self.connection.prepare(sql)?;
        // SAFETY: the borrow is of the boxed connection, which outlives `statements`; see the module's head.
        let statement = unsafe { std::mem::transmute::<Statement<'_>, Statement<'static>>(statement) };
        self.statements.push(statement);
        Ok(StatementId(self.statements.len() - 1))
    }

    /// The statement with this number. Numbers are given by [`Connection::prepare`] and end with [`Connection::forget`].
    pub fn statement(&mut self, id: StatementId) -> rusqlite::Result<&mut Statement<'static>> {
        self.statements.get_mut(id.0).ok_or(rusqlite::Error::InvalidQuery)
    }

    /// How many statements are kept.
    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// Drops the statements from number `from` on; their numbers become invalid.
    pub fn forget(&mut self, from: usize) {
        self.statements.truncate(from);
    }

    /// The plain connection.
    pub fn plain(&self) -> &rusqlite::Connection {
        &self.connection
    }
}
