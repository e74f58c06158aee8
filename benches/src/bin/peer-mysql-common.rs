//! A peer: every value of every row through the crate mysql_common, as a program that uses it would.

use std::io::BufReader;

use anyhow::{Context as _, Result};
use mysql_common::binlog::BinlogFile;
use mysql_common::binlog::consts::BinlogVersion;
use mysql_common::binlog::events::EventData;

fn main() -> Result<()> {
    for path in std::env::args().skip(1) {
        let file = std::fs::File::open(&path).with_context(|| path.clone())?;
        let mut log = BinlogFile::new(BinlogVersion::Version4, BufReader::with_capacity(1 << 20, file))?;
        let (mut rows, mut values) = (0u64, 0u64);
        while let Some(event) = log.next() {
            let event = event?;
            // MariaDB's own events are unknown to it; their errors are passed over, as its users do.
            let Ok(Some(EventData::RowsEvent(event))) = event.read_data() else { continue };
            let table = log.reader().get_tme(event.table_id()).context("rows without a table map")?;
            for row in event.rows(table) {
                let (before, after) = row?;
                for row in [before, after].into_iter().flatten() {
                    values += row.unwrap().len() as u64;
                }
                rows += 1;
            }
        }
        println!("{path}: {rows} rows, {values} values");
    }
    Ok(())
}
