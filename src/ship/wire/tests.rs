//! What is sent is what is read, and nothing else is.

use super::*;

fn messages() -> Vec<Message> {
    let reached = Reached {
        position: Some("42:1234-5678,9f3c2a1065f0c1aa,1a2b3c4d,0-1-100".parse().unwrap()),
        in_snapshot: true,
    };
    vec![
        Message::Hello(Box::new(Hello {
            versions: (1, 3),
            verb: Verb::Get,
            channel: "shop".into(),
            capabilities: capability::ZSTD,
            agent: "rlog 1".into(),
            report_name: "me".into(),
            session: 77,
            net_timeout_ms: 60_000,
            credit: 1 << 22,
            reached: reached.clone(),
            follow: true,
            reader: "r".into(),
            probe: true,
        })),
        Message::Welcome(Box::new(Welcome {
            version: 1,
            capabilities: 1,
            agent: "x".into(),
            net_timeout_ms: 5,
            credit: 7,
            reached: reached.clone(),
        })),
        Message::Data(Data { payload: vec![7; 1000], compressed: false }),
        Message::Credit(u64::MAX),
        Message::Ack(Box::new(Ack { units: 9, reached, waiting: "space".into() })),
        Message::Heartbeat,
        Message::End,
        Message::Done,
        Message::Refuse(Box::new(Refusal { status: 81, message: "gap".into(), hint: "do".into(), again: true })),
    ]
}

fn decode(bytes: &[u8], step: usize) -> Result<Vec<Message>, WireError> {
    let mut decoder = Decoder::new();
    decoder.allow_data();
    let mut seen = Vec::new();
    for piece in bytes.chunks(step) {
        let room = decoder.room();
        room[..piece.len()].copy_from_slice(piece);
        decoder.filled(piece.len());
        while let Some(message) = decoder.next()? {
            seen.push(message);
        }
    }
    Ok(seen)
}

#[test]
fn messages_come_back_as_sent_however_they_are_cut() {
    let bytes: Vec<u8> = messages().iter().flat_map(Message::encode).collect();
    for step in [1, 7, 8, 1000, bytes.len()] {
        assert_eq!(decode(&bytes, step), Ok(messages()), "{step}");
    }
}

#[test]
fn a_piece_is_packed_and_unpacked() {
    let piece: Vec<u8> = (0..PIECE_MAX).map(|n| (n / 100) as u8).collect();
    let mut packer = Packer::new(1).unwrap();
    let sent = data(&piece, Some(&mut packer));
    assert!(sent.len() < piece.len() / 4);
    let Message::Data(data) = decode(&sent, sent.len()).unwrap().remove(0) else { panic!("no data") };
    let mut scratch = Vec::new();
    assert_eq!(data.piece(&mut Unpacker::default(), &mut scratch, 0), Ok(&piece[..]));
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let mut decoder = Decoder::new();
    decoder.allow_data();
    for (kind, length) in [(DATA, DATA_MAX as u32 + 1), (HELLO, u32::MAX), (ACK, CONTROL_MAX as u32 + 1), (END, 1)] {
        let mut bytes = header(kind, 0, 0);
        bytes[4..].copy_from_slice(&length.to_le_bytes());
        assert!(decode(&bytes, 8).is_err(), "{kind}");
    }
    // More bytes than the size that it admits to, and a size beyond the limit.
    let zeros = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
    for size in [1u32, 1000, PIECE_MAX as u32, 64 << 20] {
        let payload = [&size.to_le_bytes()[..], &zeros].concat();
        let bomb = Data { payload, compressed: true };
        assert!(bomb.piece(&mut Unpacker::default(), &mut Vec::new(), 0).is_err(), "{size}");
    }
}

#[test]
fn before_the_welcome_only_small_control_messages_come_in() {
    let mut decoder = Decoder::new();
    assert_eq!(decoder.room().len(), HEADER_LEN + CONTROL_MAX);
    decoder.room()[..8].copy_from_slice(&header(DATA, 0, 10));
    decoder.filled(8);
    assert_eq!(decoder.next(), Err(WireError::Order("data")));
    let mut decoder = Decoder::new();
    decoder.room()[..8].copy_from_slice(b"GET / HT");
    decoder.filled(8);
    assert_eq!(decoder.next(), Err(WireError::Magic));
}
