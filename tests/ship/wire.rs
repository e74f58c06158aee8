//! What the fuzz target `wire` does, on inputs that a generator makes: whole messages, and what is left of them when bytes change.

#[path = "../../fuzz/src/wire.rs"]
mod fuzz;

use proptest::prelude::*;
use rlog::ship::wire::{Ack, Hello, Message, Reached, Refusal, Welcome};

fn messages() -> Vec<u8> {
    let reached = Reached {
        position: Some("42:1234-5678,9f3c2a1065f0c1aa,1a2b3c4d,0-1-100".parse().unwrap()),
        in_snapshot: true,
    };
    let hello = Hello { versions: (1, 1), channel: "shop".into(), reached: reached.clone(), ..Hello::default() };
    let refusal = Refusal { status: 81, message: "gap".into(), hint: "mend".into(), again: true };
    let messages = [
        Message::Hello(Box::new(hello)),
        Message::Welcome(Box::new(Welcome { version: 1, credit: 9, reached: reached.clone(), ..Welcome::default() })),
        Message::Credit(77),
        Message::Ack(Box::new(Ack { units: 7, reached, waiting: "x".into() })),
        Message::Heartbeat,
        Message::Refuse(Box::new(refusal)),
        Message::End,
    ];
    messages.iter().flat_map(Message::encode).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_arrives_panics(noise in proptest::collection::vec(any::<u8>(), 0..400), at in any::<prop::sample::Index>(), byte in any::<u8>(), step in any::<u8>()) {
        fuzz::messages(&noise);
        let mut bytes = messages();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.insert(0, step);
        fuzz::messages(&bytes);
        bytes.truncate(at);
        fuzz::messages(&bytes);
    }
}
