//! The same changes as the bulk log's, by prepared statements in a loop, one transaction for each of the log's: what a
//! program written for this one table does. `prepared-loop DATABASE ROWS_PER_TRANSACTION`

use anyhow::{Context as _, Result};
use rusqlite::{Connection, params};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("a database")?;
    let rows: i64 = arguments.next().context("rows")?.parse()?;
    let mut connection = Connection::open(path)?;
    connection.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = full;
         create table narrow (id integer not null primary key, account integer not null, amount text not null, big integer not null,
             at text not null, flag integer not null, word text)",
    )?;
    for from in [0, rows] {
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare("insert into narrow values (?, ?, ?, ?, ?, ?, ?)")?;
            for id in from + 1..=from + rows {
                let cents = id * 7 % 1_000_003;
                let amount = format!("{}.{:02}", cents / 100, cents % 100);
                let at = format!(
                    "2023-11-{:02} {:02}:{:02}:{:02}",
                    1 + id / 86_400 % 28,
                    id / 3600 % 24,
                    id / 60 % 60,
                    id % 60
                );
                let word = format!("{:032x}", (id as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
                insert.execute(params![id, id % 1000, amount, id * 1_000_003, at, id % 3, word])?;
            }
        }
        transaction.commit()?;
    }
    let transaction = connection.transaction()?;
    {
        let mut update = transaction.prepare("update narrow set amount = ?2, flag = ?3, word = ?4 where id = ?1")?;
        for id in 1..=rows {
            let cents = id * 7 % 1_000_003 + 100;
            let amount = format!("{}.{:02}", cents / 100, cents % 100);
            let word = format!("{:020x}", (id as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15) & ((1 << 80) - 1));
            update.execute(params![id, amount, 1 - id % 3, word])?;
        }
    }
    transaction.commit()?;
    let transaction = connection.transaction()?;
    {
        let mut delete = transaction.prepare("delete from narrow where id = ?")?;
        for id in rows + 1..=2 * rows {
            delete.execute(params![id])?;
        }
    }
    transaction.commit()?;
    Ok(())
}
