//! The simplest durable store: reads standard input, writes it to a new file in batches, and syncs each before the next.
//! `plain-write FILE BATCH_BYTES`

use std::fs::File;
use std::io::{Read as _, Write as _};

use anyhow::{Context as _, Result};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("a file")?;
    let batch: usize = arguments.next().context("a batch size")?.parse()?;
    let mut file = File::create(&path).context(path)?;
    let mut input = std::io::stdin().lock();
    let mut buffer = Vec::with_capacity(batch);
    loop {
        buffer.clear();
        (&mut input).take(batch as u64).read_to_end(&mut buffer)?;
        if buffer.is_empty() {
            return Ok(());
        }
        file.write_all(&buffer)?;
        file.sync_data()?;
    }
}
