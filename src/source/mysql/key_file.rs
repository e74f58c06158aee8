//! Key files that are encrypted themselves, as `file_key_management_filekey` has it.
//!
//! Such a file is what `openssl enc -aes-256-cbc` writes: `Salted__`, 8 bytes of salt, AES-256 in CBC mode with PKCS#7 padding. Key and IV come from the secret and the salt by
//! OpenSSL's EVP_BytesToKey with one round of a digest: SHA-1 unless the server was told otherwise (`file_key_management_digest`). The
//! file does not say which: the one with which the text becomes a key file is it. (Facts: MariaDB's documentation of the plugin; EVP_BytesToKey(3).)

use aes::cipher::{Array, BlockCipherDecrypt as _, KeyInit as _};
use sha1::{Digest, Sha1};
use sha2::{Sha224, Sha256, Sha384, Sha512};

use crate::error::{Class, Error, Result};
use crate::source::NamedText;

const PREFIX: &[u8] = b"Salted__";
const SALT_LEN: usize = 8;
const BLOCK: usize = 16;
const KEY_LEN: usize = 32;
/// A digest of parts put together.
type Hash = fn(&[&[u8]]) -> Vec<u8>;

/// What the server reads of a secret, in bytes.
const SECRET_MAX: usize = 256;

/// The key file in the clear: as it is, or decrypted with the secret in `secret_file`.
pub fn unlock(file: NamedText, secret_file: Option<&NamedText>) -> Result<NamedText> {
    let Some(encrypted) = file.text.strip_prefix(PREFIX) else { return Ok(file) };
    let Some(secret_file) = secret_file else {
        return Err(Error::new(Class::Permission, "the key file is itself encrypted").in_file(&file.name).hint(
            "give the file with its secret: `--key-secret FILE`, the server's file_key_management_filekey=FILE:… (or decrypt it with openssl)",
        ));
    };
    let secret = secret_file.text.get(..SECRET_MAX).unwrap_or(&secret_file.text);
    let end = secret.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |at| at + 1);
    let secret = secret.get(..end).unwrap_or(&[]);
    let damage = || Error::damage("the key file is cut short: it is no whole number of blocks").in_file(&file.name);
    let (salt, data) = encrypted.split_at_checked(SALT_LEN).ok_or_else(damage)?;
    if data.is_empty() || data.len() % BLOCK != 0 {
        return Err(damage());
    }
    let digests: [Hash; 5] = [digest::<Sha1>, digest::<Sha256>, digest::<Sha224>, digest::<Sha384>, digest::<Sha512>];
    for digest in digests {
        let (key, iv) = key_and_iv(digest, secret, salt);
        if let Some(text) = decrypt(&key, &iv, data).filter(|text| is_key_file(text)) {
            return Ok(NamedText { name: file.name, text });
        }
    }
    Err(Error::new(Class::Permission, "the secret does not decrypt the key file").in_file(&file.name).hint(format!(
        "look whether {} is the server's file_key_management_filekey; a file made with -pbkdf2 is decrypted with openssl first",
        secret_file.name
    )))
}

fn digest<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
    let mut hasher = D::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().to_vec()
}

/// EVP_BytesToKey with one round: each digest is of the one before, the secret and the salt.
fn key_and_iv(digest: Hash, secret: &[u8], salt: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut out: Vec<u8> = Vec::new();
    let mut last = Vec::new();
    while out.len() < KEY_LEN + BLOCK {
        last = digest(&[&last, secret, salt]);
        out.extend_from_slice(&last);
    }
    out.truncate(KEY_LEN + BLOCK);
    let iv = out.split_off(KEY_LEN);
    (out, iv)
}

fn decrypt(key: &[u8], iv: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let aes = aes::Aes256::new_from_slice(key).ok()?;
    let mut previous = *iv.first_chunk::<BLOCK>()?;
    let mut out = Vec::with_capacity(data.len());
    let (blocks, _) = data.as_chunks::<BLOCK>();
    for cipher in blocks {
        let mut block = Array::from(*cipher);
        aes.decrypt_block(&mut block);
        let plain: [u8; BLOCK] = block.into();
        out.extend(plain.iter().zip(previous).map(|(byte, mask)| byte ^ mask));
        previous = *cipher;
    }
    let padding = usize::from(*out.last()?);
    let whole = out.len().checked_sub(padding).filter(|_| (1..=BLOCK).contains(&padding))?;
    let padded = out.get(whole..)?.iter().all(|byte| usize::from(*byte) == padding);
    out.truncate(whole);
    padded.then_some(out)
}

/// Whether a text looks like a key file: lines of printable characters, one of them at least with a key.
fn is_key_file(text: &[u8]) -> bool {
    let printable = text
        .iter()
        .all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t' | b'\n' | b'\r') || *byte >= 0x80);
    let has_key = text.split(|byte| *byte == b'\n').any(|line| {
        let line = line.trim_ascii();
        line.first().is_some_and(u8::is_ascii_digit) && line.contains(&b';')
    });
    printable && has_key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &[u8]) -> NamedText {
        NamedText { name: "k".into(), text: text.to_vec() }
    }

    /// Made with `printf '1;770A8A65DA156D24EE2A093277530142\n' | openssl enc -aes-256-cbc -md DIGEST -S 0102030405060708 -k secret`, the prefix and salt put in front where
    /// OpenSSL 3 leaves them out.
    fn encrypted(digest: &str) -> Vec<u8> {
        let body = match digest {
            "sha1" => SHA1,
            _ => SHA256,
        };
        let mut out = b"Salted__\x01\x02\x03\x04\x05\x06\x07\x08".to_vec();
        out.extend((0..body.len()).step_by(2).map(|at| u8::from_str_radix(&body[at..at + 2], 16).unwrap()));
        out
    }
    const SHA1: &str =
        "8c149ff39cb38427b10e1e6136e0be6709a763f16857a0f615fb1a2efea7d80bf807af506fa12a9128f8396ce511eaf1";
    const SHA256: &str =
        "7fda972de39e3d2da520fbdf176c1f3df8ba83f7c4190d962b20df427e3e6ebaea2174cd45512b3abcd3a98863ac3c73";

    #[test]
    fn a_file_of_openssl_opens_with_its_secret_only() {
        let plain = b"1;770A8A65DA156D24EE2A093277530142\n";
        for digest in ["sha1", "sha256"] {
            let file = named(&encrypted(digest));
            assert_eq!(unlock(file.clone(), Some(&named(b"secret\r\n"))).unwrap().text, plain, "{digest}");
            for secret in [None, Some(named(b"other"))] {
                assert_eq!(unlock(file.clone(), secret.as_ref()).unwrap_err().class(), Class::Permission);
            }
        }
        let mut cut = encrypted("sha1");
        cut.pop();
        assert_eq!(unlock(named(&cut), Some(&named(b"secret"))).unwrap_err().class(), Class::Damage);
        assert_eq!(unlock(named(plain), None).unwrap().text, plain, "one that is not encrypted stays as it is");
    }
}
