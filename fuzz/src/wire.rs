//! rlog-ship's messages: the decoder as strangers and as welcomed peers meet it, pieces unpacked, texts read as a server reads them.

use rlog::ship::keys::{AuthorizedKeys, KnownServers};
use rlog::ship::wire::{Decoder, Message, PIECE_MAX, Unpacker};

/// Everything that arrives before and after a welcome, cut as the first byte says.
pub fn messages(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else { return };
    for welcomed in [false, true] {
        decode(bytes, usize::from(step) + 1, welcomed);
    }
    // Fuzzers do not find zstd frames: one whose size is what the input says.
    if bytes.len() >= 4
        && let Ok(packed) = zstd_of(&bytes[4..])
    {
        let length = (4 + packed.len()) as u32;
        let message = [&[3, 1, 0, 0][..], &length.to_le_bytes(), &bytes[..4], &packed].concat();
        decode(&message, message.len(), true);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = AuthorizedKeys::parse(text, "x");
        let _ = KnownServers::parse(text, "x");
        let _ = text.parse::<rlog::ship::Address>();
    }
}

fn zstd_of(bytes: &[u8]) -> Result<Vec<u8>, ()> {
    let mut packer = rlog::ship::wire::Packer::new(1).map_err(|_| ())?;
    let piece = bytes.get(..bytes.len().min(PIECE_MAX)).filter(|piece| !piece.is_empty()).ok_or(())?;
    let message = rlog::ship::wire::data(piece, Some(&mut packer));
    // Flag and size tell whether it became smaller.
    if message.get(1) == Some(&1) { Ok(message.get(12..).ok_or(())?.to_vec()) } else { Err(()) }
}

fn decode(bytes: &[u8], step: usize, welcomed: bool) {
    let mut decoder = Decoder::new();
    if welcomed {
        decoder.allow_data();
    }
    let (mut unpacker, mut scratch) = (Unpacker::default(), Vec::new());
    for mut piece in bytes.chunks(step) {
        while !piece.is_empty() {
            let room = decoder.room();
            let count = room.len().min(piece.len());
            assert!(count > 0, "no room for what a message may still need");
            room[..count].copy_from_slice(&piece[..count]);
            decoder.filled(count);
            piece = &piece[count..];
            loop {
                match decoder.next() {
                    Ok(Some(Message::Data(data))) => {
                        assert!(welcomed);
                        if let Ok(piece) = data.piece(&mut unpacker, &mut scratch, 0) {
                            assert!(piece.len() <= PIECE_MAX + 4);
                        }
                    }
                    Ok(Some(message)) => {
                        // What was understood is understood again, as the same.
                        let again = message.encode();
                        let mut decoder = Decoder::new();
                        let room = decoder.room();
                        room[..again.len()].copy_from_slice(&again);
                        decoder.filled(again.len());
                        assert_eq!(decoder.next(), Ok(Some(message)));
                    }
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
        }
    }
}
