//! Two-way byte streams that never block: TLS over TCP, and a pair of pipes (ssh, `--stdio`).

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::AlertDescription;

use super::keys::PublicKey;
use super::tls;
use crate::error::{Class, Error, Result};

/// A connection, non-blocking.
#[derive(Debug)]
pub enum Link {
    /// TLS over TCP.
    Tls {
        /// The socket.
        socket: TcpStream,
        /// Its TLS.
        tls: Box<rustls::Connection>,
        /// What came and was not yet given to TLS, which takes 4 KiB at a time.
        inbox: Inbox,
    },
    /// What someone else encrypts.
    Pipes {
        /// From the peer.
        input: OwnedFd,
        /// To the peer.
        output: OwnedFd,
        /// The program at the other end of the pipes, if we started it.
        child: Option<Child>,
    },
}

/// Bytes that came.
#[derive(Debug, Default)]
pub struct Inbox {
    buffer: Vec<u8>,
    at: usize,
    filled: usize,
}

impl Inbox {
    const BYTES: usize = 64 << 10;

    /// Gives TLS some of them, reading more if there are none; 0 at the end.
    fn give(&mut self, socket: &mut TcpStream, tls: &mut rustls::Connection) -> io::Result<usize> {
        if self.at == self.filled {
            if self.buffer.is_empty() {
                self.buffer.resize(Self::BYTES, 0);
            }
            (self.at, self.filled) = (0, 0);
            self.filled = socket.read(&mut self.buffer)?;
        }
        let mut rest = self.buffer.get(self.at..self.filled).unwrap_or(&[]);
        let count = tls.read_tls(&mut rest)?;
        self.at += count;
        Ok(count)
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interest {
    pub read: bool,
    pub write: bool,
}

impl Link {
    /// TLS over a connected socket.
    pub fn tls(socket: TcpStream, tls: rustls::Connection) -> io::Result<Link> {
        socket.set_nonblocking(true)?;
        // What is small is an acknowledgement that someone waits for.
        socket.set_nodelay(true)?;
        rustix::net::sockopt::set_socket_keepalive(&socket, true)?;
        Ok(Link::Tls { socket, tls: Box::new(tls), inbox: Inbox::default() })
    }

    /// A pair of pipes.
    pub fn pipes(input: OwnedFd, output: OwnedFd, child: Option<Child>) -> io::Result<Link> {
        rustix::io::ioctl_fionbio(&input, true)?;
        rustix::io::ioctl_fionbio(&output, true)?;
        Ok(Link::Pipes { input, output, child })
    }

    /// Reads what came in the clear; 0 at the end.
    pub(super) fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Link::Tls { socket, tls, inbox } => loop {
                match tls.reader().read(out) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    other => return other,
                }
                if inbox.give(socket, tls)? == 0 {
                    // Cut off without a farewell.
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                tls.process_new_packets().map_err(|error| {
                    // Its alert tells the peer why.
                    let _ = tls.write_tls(socket);
                    io::Error::new(io::ErrorKind::InvalidData, error)
                })?;
            },
            Link::Pipes { input, .. } => loop {
                match rustix::io::read(&*input, &mut *out) {
                    Err(rustix::io::Errno::INTR) => {}
                    other => return Ok(other?),
                }
            },
        }
    }

    /// Takes bytes to be sent; returns how many. [`Link::flush`] sends what TLS keeps.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Link::Tls { tls, .. } => match tls.writer().write(bytes) {
                Ok(0) if !bytes.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
                other => other,
            },
            Link::Pipes { output, .. } => loop {
                match rustix::io::write(&*output, bytes) {
                    Err(rustix::io::Errno::INTR) => {}
                    other => return Ok(other?),
                }
            },
        }
    }

    /// Sends what is kept; false when some is left.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        let Link::Tls { socket, tls, .. } = self else { return Ok(true) };
        while tls.wants_write() {
            match tls.write_tls(socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Whether something waits to be sent.
    pub(super) fn keeps(&self) -> bool {
        matches!(self, Link::Tls { tls, .. } if tls.wants_write())
    }

    /// Waits until something can be done, `wake` is signalled, or time is up.
    pub(super) fn wait(&self, interest: Interest, wake: Option<BorrowedFd<'_>>, timeout: Duration) -> io::Result<()> {
        let flag = |wanted: bool, flag: PollFlags| if wanted { flag } else { PollFlags::empty() };
        let (read, write) = (flag(interest.read, PollFlags::IN), flag(interest.write, PollFlags::OUT));
        let mut waits = Vec::with_capacity(3);
        match self {
            Link::Tls { socket, .. } => waits.push(PollFd::from_borrowed_fd(socket.as_fd(), read | write)),
            Link::Pipes { input, output, .. } => {
                // A closed pipe is reported whether it is waited for or not.
                if interest.read {
                    waits.push(PollFd::from_borrowed_fd(input.as_fd(), read));
                }
                if interest.write {
                    waits.push(PollFd::from_borrowed_fd(output.as_fd(), write));
                }
            }
        }
        waits.extend(wake.map(|wake| PollFd::from_borrowed_fd(wake, PollFlags::IN)));
        let limit = Timespec::try_from(timeout).ok();
        match poll(&mut waits, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Does the handshake of TLS and tells whose connection it is; `None` for pipes. `Err(Ok(error))` is TLS's own.
    pub(super) fn handshake(&mut self, deadline: Instant) -> Result<Option<PublicKey>, Handshake> {
        loop {
            let Link::Tls { socket, tls, .. } = self else { return Ok(None) };
            let mut wait = Interest { read: true, write: false };
            while tls.wants_write() {
                match tls.write_tls(socket) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        wait.write = true;
                        break;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(Handshake::Io(error)),
                }
            }
            if !tls.is_handshaking() && !wait.write {
                return match tls::peer(tls) {
                    Some(key) => Ok(Some(key)),
                    None => {
                        Err(Handshake::Io(io::Error::new(io::ErrorKind::InvalidData, "no agreement on a protocol")))
                    }
                };
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Handshake::Io(io::ErrorKind::TimedOut.into()));
            }
            self.wait(wait, None, left).map_err(Handshake::Io)?;
            let Link::Tls { socket, tls, .. } = self else { return Ok(None) };
            match tls.read_tls(socket) {
                Ok(0) => return Err(Handshake::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {
                    if let Err(error) = tls.process_new_packets() {
                        let _ = tls.write_tls(socket);
                        return Err(Handshake::Tls(error));
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(Handshake::Io(error)),
            }
        }
    }

    /// Says farewell, and closes. With `linger`, waits a moment for the peer to close first: closing on bytes that were not read would
    /// reset the connection, and the peer might never see our last words.
    pub(super) fn close(mut self, linger: bool) {
        const LINGER: Duration = Duration::from_secs(2);
        if let Link::Tls { socket, tls, .. } = &mut self {
            tls.send_close_notify();
            let _ = tls.write_tls(socket);
            let _ = socket.shutdown(Shutdown::Write);
        }
        if let (Link::Tls { socket, .. }, true) = (&self, linger) {
            let deadline = Instant::now() + LINGER;
            let mut scrap = [0; 4096];
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                match (&*socket).read(&mut scrap) {
                    Ok(count) if count > 0 && !left.is_zero() => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && !left.is_zero() => {
                        if self.wait(Interest { read: true, write: false }, None, left).is_err() {
                            break;
                        }
                    }
                    _ => break,
                }
            }
        }
        if let Link::Pipes { input, output, child: Some(mut child) } = self {
            drop((input, output));
            // It ends by itself once its pipes are closed; a hanging one is not waited for.
            for _ in 0..50 {
                if !matches!(child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Handshake {
    Io(io::Error),
    Tls(rustls::Error),
}

impl Handshake {
    /// As the server reports it.
    pub fn into_error(self, peer: &str) -> Error {
        match self {
            Handshake::Io(error) => lost(error, peer),
            Handshake::Tls(error) => Error::new(Class::Permission, format!("no handshake: {error}")).in_file(peer),
        }
    }
}

/// What an error of a connection means: it is worth trying again, unless the peer says that it does not want us.
pub(super) fn lost(error: io::Error, peer: &str) -> Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::AlertReceived(AlertDescription::AccessDenied | AlertDescription::CertificateUnknown)) =
        tls
    {
        return Error::new(Class::Permission, "the server does not let this key in").in_file(peer);
    }
    let what = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the other side closed the connection".to_owned(),
        io::ErrorKind::TimedOut => "the other side was silent for too long".to_owned(),
        _ => error.to_string(),
    };
    Error::new(Class::TryAgain, what).in_file(peer).caused_by(error)
}
