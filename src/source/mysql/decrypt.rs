//! MariaDB's encrypted binary logs, with the keys of a file_key_management key file.
//!
//! Behind a START_ENCRYPTION event (scheme 1, key version, 12-byte nonce) every event is encrypted by itself under key 1: its length stays clear at bytes 9
//! to 12, and the four bytes that were there before stand at its front while it is decrypted. The IV is the nonce and the event's offset (4 bytes,
//! little-endian). AES-CBC without padding: of a last partial block the cipher is the exclusive-or with the encrypted IV. Servers set to
//! `file_key_management_encryption_algorithm=aes_ctr` use counter mode instead; the log does not say which, the event's own header does.

use std::collections::BTreeMap;

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256};

use super::bytes::Bytes;
use crate::error::{Class, Error, Result};
use crate::source::NamedText;

/// Id of the key that servers use for their logs (ENCRYPTION_KEY_SYSTEM_DATA).
const SYSTEM_KEY: u32 = 1;
const BLOCK: usize = 16;

/// The keys of a key file, by id.
pub struct Keys(BTreeMap<u32, Vec<u8>>);

impl Keys {
    /// Parses lines of `id;hexadecimal key`; what follows the key, empty lines and lines with `#` are comments.
    pub fn parse(file: &NamedText) -> Result<Keys> {
        let mut keys = BTreeMap::new();
        for (number, line) in file.text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let parsed = parse_line(line).ok_or_else(|| {
                // The line is not quoted: it may hold a key.
                Error::config(format!("line {} is not `id;key in hexadecimal` of 16, 24 or 32 bytes", number + 1))
                    .in_file(&file.name)
            })?;
            keys.insert(parsed.0, parsed.1);
        }
        Ok(Keys(keys))
    }
}

fn parse_line(line: &[u8]) -> Option<(u32, Vec<u8>)> {
    let line = std::str::from_utf8(line).ok()?;
    let (id, rest) = line.split_once(';')?;
    let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
    let hex = rest.get(..digits)?.as_bytes();
    if !matches!(hex.len(), 32 | 48 | 64) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let key: Option<Vec<u8>> = hex.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
    Some((id.trim().parse().ok()?, key?))
}

enum Aes {
    Aes128(Box<Aes128>),
    Aes192(Box<Aes192>),
    Aes256(Box<Aes256>),
}

impl Aes {
    fn new(key: &[u8]) -> Option<Aes> {
        Some(match key.len() {
            16 => Aes::Aes128(Box::new(Aes128::new_from_slice(key).ok()?)),
            24 => Aes::Aes192(Box::new(Aes192::new_from_slice(key).ok()?)),
            _ => Aes::Aes256(Box::new(Aes256::new_from_slice(key).ok()?)),
        })
    }

    fn encrypt(&self, block: &mut [u8; BLOCK]) {
        let mut array = Array::from(*block);
        match self {
            Aes::Aes128(aes) => aes.encrypt_block(&mut array),
            Aes::Aes192(aes) => aes.encrypt_block(&mut array),
            Aes::Aes256(aes) => aes.encrypt_block(&mut array),
        }
        *block = array.into();
    }

    fn decrypt(&self, block: &mut [u8; BLOCK]) {
        let mut array = Array::from(*block);
        match self {
            Aes::Aes128(aes) => aes.decrypt_block(&mut array),
            Aes::Aes192(aes) => aes.decrypt_block(&mut array),
            Aes::Aes256(aes) => aes.decrypt_block(&mut array),
        }
        *block = array.into();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Cbc,
    Ctr,
}

/// Decrypts the events of one file.
pub struct Decryption {
    aes: Aes,
    nonce: [u8; 12],
    mode: Option<Mode>,
}

impl Decryption {
    /// From the data of a START_ENCRYPTION event.
    pub fn start(body: &[u8], keys: Option<&Keys>) -> Result<Decryption> {
        let mut input = Bytes::new(body);
        let mut parts = || Some((input.u8()?, input.u32()?, *input.take(12)?.first_chunk::<12>()?));
        let (scheme, _version, nonce) =
            parts().ok_or_else(|| Error::damage("START_ENCRYPTION event is invalid: it is cut short"))?;
        if scheme != 1 {
            return Err(Error::new(Class::Version, format!("encryption scheme {scheme} is not known to this version")));
        }
        let Some(keys) = keys else {
            return Err(Error::new(Class::Permission, "this log is encrypted by MariaDB (encrypt_binlog=ON)")
                .hint("give its keys: `--key-file FILE`, the server's file_key_management_filename"));
        };
        let key = keys
            .0
            .get(&SYSTEM_KEY)
            .ok_or_else(|| Error::config("the key file has no key 1, the one that binary logs are encrypted with"))?;
        let aes = Aes::new(key).ok_or_else(|| Error::config("key 1 of the key file has an invalid length"))?;
        Ok(Decryption { aes, nonce, mode: None })
    }

    /// Decrypts the event at offset `at` into `out`. The result is plausible (see `plausible`) or refused.
    pub fn event(&mut self, encrypted: &[u8], at: u64, out: &mut Vec<u8>) -> Result<()> {
        let modes: &[Mode] = match self.mode {
            Some(Mode::Cbc) => &[Mode::Cbc],
            Some(Mode::Ctr) => &[Mode::Ctr],
            None => &[Mode::Cbc, Mode::Ctr],
        };
        for mode in modes {
            out.clear();
            out.extend_from_slice(encrypted);
            if self.decrypt(*mode, at, out).is_some() && (self.mode.is_some() || plausible(out)) {
                self.mode = Some(*mode);
                return Ok(());
            }
        }
        Err(Error::damage("event does not decrypt: the key file has another key, or the log is damaged").at(at))
    }

    fn decrypt(&self, mode: Mode, at: u64, event: &mut [u8]) -> Option<()> {
        let length: [u8; 4] = *event.get(9..13)?.first_chunk()?;
        let displaced: [u8; 4] = *event.first_chunk()?;
        event.get_mut(9..13)?.copy_from_slice(&displaced);
        let mut iv = [0; BLOCK];
        iv[..12].copy_from_slice(&self.nonce);
        iv[12..].copy_from_slice(&(at as u32).to_le_bytes());
        let data = event.get_mut(4..)?;
        match mode {
            Mode::Cbc => self.cbc(iv, data),
            Mode::Ctr => self.ctr(iv, data),
        }
        let displaced: [u8; 4] = *event.get(9..13)?.first_chunk()?;
        event.get_mut(..4)?.copy_from_slice(&displaced);
        event.get_mut(9..13)?.copy_from_slice(&length);
        Some(())
    }

    fn cbc(&self, iv: [u8; BLOCK], data: &mut [u8]) {
        let mut previous = iv;
        let (blocks, rest) = data.as_chunks_mut::<BLOCK>();
        for block in blocks {
            let cipher = *block;
            self.aes.decrypt(block);
            block.iter_mut().zip(previous).for_each(|(byte, mask)| *byte ^= mask);
            previous = cipher;
        }
        let mut mask = iv;
        self.aes.encrypt(&mut mask);
        rest.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }

    fn ctr(&self, iv: [u8; BLOCK], data: &mut [u8]) {
        let mut counter = u128::from_be_bytes(iv);
        for block in data.chunks_mut(BLOCK) {
            let mut mask = counter.to_be_bytes();
            self.aes.encrypt(&mut mask);
            block.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
            counter = counter.wrapping_add(1);
        }
    }
}

/// Whether the first decrypted event (a GTID_LIST, or the first event of a relay log) has a type and flags that exist.
fn plausible(event: &[u8]) -> bool {
    let (Some(kind), Some(flags)) = (event.get(4), event.get(17..19)) else { return false };
    matches!(kind, 1..=42 | 160..=172) && flags[1] <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_read_as_the_server_reads_it() {
        let text = b"# keys\n\n1;770A8A65DA156D24EE2A093277530142\n 4;18420B5CBA31CCDFFE9716E91EB61374D05914F3ADE23E03 --> ignored\n";
        let keys = Keys::parse(&NamedText { name: "k".into(), text: text.to_vec() }).unwrap();
        assert_eq!(keys.0.len(), 2);
        assert_eq!(keys.0[&1][..2], [0x77, 0x0a]);
        let error = Keys::parse(&NamedText { name: "k".into(), text: b"1;77".to_vec() }).err().unwrap();
        assert_eq!(error.class(), Class::Config);
        assert!(!error.to_string().contains("77"), "no part of a key is shown: {error}");
    }
}
