//! Table maps and rows of binary logs: the input is a table map event's body and rows for it. What comes out must be a
//! rows record that reads to its end.

use rlog::event::{RecordKind, Records, Rows, RowsOp};
use rlog::source::mysql::definition::definition;
use rlog::source::mysql::image::{RowPlan, RowsInput};
use rlog::source::mysql::table_map::{Family, TableMap};

/// First byte: length of the table map; second: operation and family; then the map, two bitmaps, images.
pub fn rows(data: &[u8]) {
    let [map_length, choice, rest @ ..] = data else { return };
    let (map, rest) = rest.split_at(usize::from(*map_length).min(rest.len()));
    let family = if choice & 4 == 0 { Family::MySql } else { Family::MariaDb };
    let Ok(map) = TableMap::parse(map, 6, family) else { return };
    let op = [RowsOp::Insert, RowsOp::Update, RowsOp::Delete][usize::from(choice % 3)];
    let definition = definition(&map, None, family).definition;
    let Ok(mut plan) = RowPlan::new(&map, &definition) else { return };
    let bitmap = plan.columns().div_ceil(8);
    let full = vec![0xff; bitmap];
    let (before, after, mut images) = if choice & 8 == 0 || rest.len() < 2 * bitmap {
        (full.as_slice(), full.as_slice(), rest)
    } else {
        (&rest[..bitmap], &rest[bitmap..2 * bitmap], &rest[2 * bitmap..])
    };
    let mut out = Vec::new();
    while !images.is_empty() {
        let input = RowsInput { op, before, after, images, partial_json: choice & 16 != 0, time_s: 0 };
        let Ok(done) = plan.transcode(&input, &mut out, 64) else { break };
        assert!(done.consumed > 0 && done.rows > 0, "it stands still");
        images = &images[done.consumed..];
    }
    let mut records = Records::new(&out);
    while let Some((kind, body)) = records.next().unwrap() {
        assert_ne!(kind, RecordKind::Statement);
        let rows = Rows::decode(op, body).unwrap();
        let mut rows = rows.iter(&definition).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for image in [row.before, row.after].into_iter().flatten() {
                assert!(image.columns().all(|value| value.is_ok()));
            }
        }
    }
}
