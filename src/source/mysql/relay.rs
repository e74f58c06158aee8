//! Where the events of relay logs stood in their source's log.

use super::event::Header;

/// Lasts from file to file.
#[derive(Default)]
pub struct Relay {
    /// The replica's own server id.
    pub own_id: u32,
    /// What the last ROTATE named, until an event of that file comes.
    pub named: Option<(String, u32)>,
    /// Offset behind the last event in the source's file.
    pub end: u64,
}

impl Relay {
    /// Where an event stood in the source's file. Its end position is known modulo 2^32, and only moves on.
    pub fn place(&mut self, header: &Header, size: usize, version: u16) -> (u64, u64) {
        const TURN: u64 = 1 << 32;
        let size = size as u64;
        let (start, end) = if header.log_pos == 0 {
            (self.end, self.end + size)
        } else {
            // Before v4 it is where the event begins.
            let low = u64::from(header.log_pos) + if version < 4 { size } else { 0 };
            let mut end = self.end & !(TURN - 1) | low;
            if end + TURN / 2 < self.end {
                end += TURN;
            }
            (end.saturating_sub(size), end)
        };
        self.end = end;
        (start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_go_on_beyond_four_gibibytes() {
        let mut relay = Relay { end: 0xffff_ff00, ..Relay::default() };
        let header = |log_pos| Header { log_pos, ..Header::default() };
        assert_eq!(relay.place(&header(0xffff_ffc0), 0xc0, 4), (0xffff_ff00, 0xffff_ffc0));
        assert_eq!(relay.place(&header(0x40), 0x80, 4), (0xffff_ffc0, 0x1_0000_0040));
        assert_eq!(relay.place(&header(0), 0x10, 4), (0x1_0000_0040, 0x1_0000_0050), "the server did not say");
        assert_eq!(relay.place(&header(0x90), 0x40, 4), (0x1_0000_0050, 0x1_0000_0090));
    }
}
