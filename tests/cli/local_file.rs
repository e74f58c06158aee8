//! A server that asks for a file of ours instead of answering: LOAD DATA LOCAL turned round.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{rlog, scratch};

const SECRET: &str = "what nobody asked for may read";

/// The first packet of protocol 10: a server of before TLS, whose client may send local files.
fn greeting() -> Vec<u8> {
    let capabilities: u32 = 0x0000_0001 | 0x80 | 0x200 | 0x2000 | 0x8000 | 0x1_0000 | 0x2_0000 | 0x8_0000;
    let mut out = vec![10];
    out.extend_from_slice(b"10.11.6-MariaDB\0");
    out.extend_from_slice(&7u32.to_le_bytes());
    out.extend_from_slice(b"12345678\0");
    out.extend_from_slice(&(capabilities as u16).to_le_bytes());
    out.push(45);
    out.extend_from_slice(&2u16.to_le_bytes());
    out.extend_from_slice(&((capabilities >> 16) as u16).to_le_bytes());
    out.push(21);
    out.extend_from_slice(&[0; 10]);
    out.extend_from_slice(b"123456789012\0mysql_native_password\0");
    out
}

fn send(socket: &mut TcpStream, sequence: u8, payload: &[u8]) -> std::io::Result<()> {
    let mut packet = (payload.len() as u32).to_le_bytes();
    packet[3] = sequence;
    socket.write_all(&packet)?;
    socket.write_all(payload)
}

fn receive(socket: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 4];
    socket.read_exact(&mut head)?;
    let mut payload = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    socket.read_exact(&mut payload)?;
    Ok((head[3], payload))
}

/// Greets, believes every password, and answers each command by asking for `file`. Keeps what it is sent then.
fn serve(mut socket: TcpStream, file: &str, got: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    send(&mut socket, 0, &greeting())?;
    let (sequence, _) = receive(&mut socket)?;
    send(&mut socket, sequence + 1, &[0, 0, 0, 2, 0, 0, 0])?;
    loop {
        let (sequence, command) = receive(&mut socket)?;
        // COM_QUIT.
        if command.first() == Some(&1) {
            return Ok(());
        }
        send(&mut socket, sequence + 1, &[b"\xfb", file.as_bytes()].concat())?;
        loop {
            let (sequence, payload) = receive(&mut socket)?;
            got.lock().unwrap().extend_from_slice(&payload);
            if payload.is_empty() {
                send(&mut socket, sequence + 1, &[0, 0, 0, 2, 0, 0, 0])?;
                break;
            }
        }
    }
}

#[test]
fn a_server_that_asks_for_a_file_is_given_none() {
    let folder = scratch();
    let file = folder.path().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let got = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (kept, count, name) = (Arc::clone(&got), Arc::clone(&asked), file.display().to_string());
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let (kept, name) = (Arc::clone(&kept), name.clone());
            std::thread::spawn(move || serve(socket, &name, &kept));
        }
    });
    let url = format!("mysql://root@127.0.0.1:{port}/?ssl-mode=disabled");
    let spool = folder.path().join("spool");
    for (program, arguments) in [
        ("rlog-extract", vec!["--retry-count", "1", &url]),
        ("rlog-extract", vec!["--retry-count", "1", "--snapshot", &url]),
        ("rlog-extract", vec!["--check", &url]),
        ("rlog-apply", vec!["status", &url]),
        ("rlog-apply", vec!["run", "--retries", "0", "--init", "empty", "--from", "-", &url]),
    ] {
        let before = asked.load(std::sync::atomic::Ordering::Relaxed);
        let ran = rlog(program).args(&arguments).timeout(Duration::from_secs(60)).output().unwrap();
        let error = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(
            ran.status.code().is_some_and(|status| status > 1),
            "{program} {arguments:?}: {:?} {error}",
            ran.status
        );
        assert!(asked.load(std::sync::atomic::Ordering::Relaxed) > before, "{program} {arguments:?} came: {error}");
    }
    assert!(!spool.exists());
    let got = got.lock().unwrap();
    assert!(!String::from_utf8_lossy(&got).contains(SECRET), "{}", String::from_utf8_lossy(&got));
}
