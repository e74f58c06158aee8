//! A connection to a cluster, and the few requests that the queue makes, blocking. The async runtime lives in here: one thread
//! of its own drives it, callers wait.
//!
//! A request that a server did not answer is made again until the address's timeout; all of them are made so that doing them
//! twice is doing them once. Then the server is away: 75.

use std::future::{Future, IntoFuture as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{self, DirectGetErrorKind, LastRawMessageErrorKind, PurgeErrorKind, Stream};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{ConnectErrorKind, ConnectOptions};

use crate::error::{Class, Error, Result};

use super::address::{NatsAddress, Tls};

/// How long one request may take before it is made again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
/// How long to wait before that.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a request may take that need not succeed.
const ONCE_TIMEOUT: Duration = Duration::from_secs(2);

/// See the module's head.
pub(super) struct Client {
    handle: tokio::runtime::Handle,
    connection: async_nats::Client,
    context: Context,
    // Dropped with the client, which ends the thread.
    _stop: tokio::sync::oneshot::Sender<()>,
    /// A request was given up: the next ones are tried once, so that whoever cleans up does not wait as long again.
    gave_up: AtomicBool,
    pub address: NatsAddress,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("address", &self.address.text).finish_non_exhaustive()
    }
}

/// What a message that is published must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected(pub u64);

/// What publishing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// It is stored, under this sequence number of the stream.
    Stored(u64),
    /// Another message stands where this one was to go.
    Overtaken,
}

/// A secret's file must be its owner's alone.
fn read_secret(path: &Path) -> Result<String> {
    let name = path.display().to_string();
    let meta = std::fs::metadata(path).map_err(|error| Error::io(&name, error))?;
    if meta.mode() & 0o077 != 0 {
        return Err(Error::new(Class::Permission, "others may read this file, and it has a secret in it")
            .in_file(&name)
            .hint(format!("chmod 600 {name}")));
    }
    std::fs::read_to_string(path).map_err(|error| Error::io(&name, error))
}

fn connect_options(address: &NatsAddress) -> Result<ConnectOptions> {
    let mut options = ConnectOptions::new().name("rlog").connection_timeout(Duration::from_secs(5));
    if let (Some(user), Some(file)) = (&address.user, &address.password_file) {
        options = options.user_and_password(user.clone(), read_secret(file)?.trim_end().to_owned());
    }
    if let Some(file) = &address.token_file {
        options = options.token(read_secret(file)?.trim().to_owned());
    }
    if let Some(file) = &address.nkey_file {
        options = options.nkey(read_secret(file)?.trim().to_owned());
    }
    if let Some(file) = &address.creds_file {
        let text = read_secret(file)?;
        options = options
            .credentials(&text)
            .map_err(|error| Error::config(format!("no credentials: {error}")).in_file(file.display().to_string()))?;
    }
    if let Some(file) = &address.tls_ca {
        readable(file)?;
        options = options.add_root_certificates(file.clone());
    }
    if let (Some(cert), Some(key)) = (&address.tls_cert, &address.tls_key) {
        readable(cert)?;
        read_secret(key)?;
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(match address.tls {
        Tls::Auto => options,
        Tls::Required => options.require_tls(true),
        Tls::First => options.require_tls(true).tls_first(),
    })
}

fn readable(path: &Path) -> Result<()> {
    std::fs::File::open(path).map(drop).map_err(|error| Error::io(path.display().to_string(), error))
}

impl Client {
    /// Connects.
    pub fn connect(address: &NatsAddress) -> Result<Arc<Client>> {
        let options = connect_options(address)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::new(Class::Io, format!("no runtime: {error}")))?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        std::thread::Builder::new()
            .name("nats".to_owned())
            .spawn(move || {
                let _ = runtime.block_on(stopped);
            })
            .map_err(|error| Error::new(Class::Io, format!("no thread: {error}")))?;
        let hosts: Vec<async_nats::ServerAddr> = address
            .hosts
            .iter()
            .map(|host| host.parse().map_err(|error| Error::usage(format!("{host}: {error}"))))
            .collect::<Result<_>>()?;
        let connection = handle.block_on(options.connect(hosts)).map_err(|error| {
            let class = match error.kind() {
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => Class::Permission,
                ConnectErrorKind::ServerParse => Class::Usage,
                ConnectErrorKind::Tls => Class::Unavailable,
                _ => Class::TryAgain,
            };
            let out = Error::new(class, format!("no connection: {error}")).in_file(&address.text);
            match class {
                Class::Permission => out.hint("creds=FILE, nkey=FILE or USER@ with password-file=FILE say who you are"),
                Class::TryAgain => out.hint("run the same command again when the servers are back"),
                _ => out,
            }
        })?;
        // It starts a task of its own.
        let entered = handle.enter();
        let mut context = jetstream::new(connection.clone());
        drop(entered);
        context.set_timeout(REQUEST_TIMEOUT);
        Ok(Arc::new(Client {
            handle,
            connection,
            context,
            _stop: stop,
            gave_up: AtomicBool::new(false),
            address: address.clone(),
        }))
    }

    fn run<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }

    /// Largest message, headers included, in bytes.
    pub fn max_payload(&self) -> usize {
        self.connection.server_info().max_payload
    }

    /// Version of the server that we are connected to.
    pub fn server_version(&self) -> String {
        self.connection.server_info().version
    }

    /// Its host, for monitoring.
    pub fn server_host(&self) -> String {
        self.connection.server_info().host
    }

    /// Makes a request until it is answered or the time is up. `again` says whether an error may go away by itself.
    fn until_answered<T, E: std::fmt::Display>(
        &self,
        what: &str,
        mut request: impl FnMut() -> std::result::Result<T, E>,
        again: impl Fn(&E) -> bool,
    ) -> Result<std::result::Result<T, E>> {
        let end = Instant::now() + self.address.timeout;
        loop {
            match request() {
                Err(error) if again(&error) => {
                    if Instant::now() >= end || self.gave_up.load(Ordering::Relaxed) {
                        return Err(self.away(what, &error));
                    }
                    std::thread::sleep(PAUSE);
                }
                answer => {
                    self.gave_up.store(false, Ordering::Relaxed);
                    return Ok(answer);
                }
            }
        }
    }

    fn away(&self, what: &str, error: &dyn std::fmt::Display) -> Error {
        self.gave_up.store(true, Ordering::Relaxed);
        let words = error.to_string();
        // Limits of the stream, of the account, of the disk: the codes are those of any failure to store.
        if ["maximum bytes exceeded", "maximum messages exceeded", "resource limits exceeded", "insufficient storage"]
            .iter()
            .any(|full| words.contains(full))
        {
            return Error::new(Class::TryAgain, format!("there is no room in the stream: {words}"))
                .in_file(&self.address.text)
                .hint(
                    "acknowledge and purge what is queued, or raise the limit; what was acknowledged to put is safe",
                );
        }
        Error::new(Class::TryAgain, format!("the server does not answer: {what}: {words}"))
            .in_file(&self.address.text)
            .hint("run the same command again when the servers are back; what was acknowledged is safe")
    }

    fn refused(&self, what: &str, error: &dyn std::fmt::Display) -> Error {
        Error::new(Class::Unavailable, format!("{what}: {error}")).in_file(&self.address.text)
    }

    /// The stream `name`; created with `config` when it is missing, if that is given.
    pub fn stream(&self, name: &str, config: Option<stream::Config>) -> Result<Option<Stream>> {
        let answer = self.until_answered(
            "stream",
            || self.run(self.context.get_stream(name)),
            |error| match error.kind() {
                GetStreamErrorKind::Request => true,
                GetStreamErrorKind::JetStream(error) => may_pass(error.error_code()),
                _ => false,
            },
        )?;
        match answer {
            Ok(stream) => return Ok(Some(stream)),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
                _ => return Err(self.refused("stream", &error)),
            },
        }
        let Some(config) = config else { return Ok(None) };
        let answer = self.until_answered(
            "create stream",
            || self.run(self.context.get_or_create_stream(config.clone())),
            |error| match error.kind() {
                CreateStreamErrorKind::TimedOut | CreateStreamErrorKind::Response => true,
                CreateStreamErrorKind::JetStream(error) => may_pass(error.error_code()),
                _ => false,
            },
        )?;
        answer.map(Some).map_err(|error| {
            self.refused("create stream", &error)
                .with_class(Class::CannotCreate)
                .hint("is JetStream enabled, and are there so many servers?")
        })
    }

    /// Publishes a message with an id behind `expected`, the last one of its subject (0: there is none). Whatever happens to servers and
    /// connections, it is stored once or not at all.
    pub fn publish(
        &self,
        stream: &Stream,
        subject: &str,
        id: &str,
        headers: &[(&str, String)],
        payload: Vec<u8>,
        expected: Expected,
    ) -> Result<Published> {
        let payload = PublishMessage::build().payload(payload.into());
        let mut message = payload.message_id(id).expected_last_subject_sequence(expected.0);
        for (name, value) in headers {
            message = message.header(*name, value.as_str());
        }
        let mut unsure = false;
        let answer = self.until_answered(
            "publish",
            || {
                let message = message.clone();
                let answer = self.run(async {
                    let acknowledged = self.context.send_publish(subject.to_owned(), message).await?;
                    acknowledged.await
                });
                unsure |= answer.is_err();
                answer
            },
            |error| {
                !matches!(
                    error.kind(),
                    PublishErrorKind::WrongLastSequence
                        | PublishErrorKind::WrongLastMessageId
                        | PublishErrorKind::MaxPayloadExceeded
                )
            },
        )?;
        match answer {
            Ok(acknowledged) => Ok(Published::Stored(acknowledged.sequence)),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                // The server forgets the ids that it has seen: what stands there may be this message, whose acknowledgement was lost.
                let last = self.last(stream, subject)?;
                match last {
                    Some(last) if unsure && header(&last, "Nats-Msg-Id") == Some(id) => {
                        Ok(Published::Stored(last.sequence))
                    }
                    _ => Ok(Published::Overtaken),
                }
            }
            Err(error) => Err(self.refused("publish", &error)),
        }
    }

    /// The last message of a subject, from the stream's leader.
    pub fn last(&self, stream: &Stream, subject: &str) -> Result<Option<StreamMessage>> {
        self.raw("last message", || self.run(stream.get_last_raw_message_by_subject(subject)))
    }

    /// The first message of a subject (which may have wildcards) at or behind `sequence`, from the stream's leader.
    pub fn next_from_leader(&self, stream: &Stream, subject: &str, sequence: u64) -> Result<Option<StreamMessage>> {
        self.raw("next message", || self.run(stream.get_first_raw_message_by_subject(subject, sequence)))
    }

    fn raw(
        &self,
        what: &str,
        request: impl FnMut() -> std::result::Result<StreamMessage, stream::LastRawMessageError>,
    ) -> Result<Option<StreamMessage>> {
        let answer = self.until_answered(what, request, |error| match error.kind() {
            LastRawMessageErrorKind::Other => true,
            LastRawMessageErrorKind::JetStream(error) => may_pass(error.error_code()),
            _ => false,
        })?;
        match answer {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(self.refused(what, &error)),
        }
    }

    /// As [`Client::next_from_leader`], from any replica, which may lag behind: `None` proves nothing.
    pub fn next_from_any(&self, stream: &Stream, subject: &str, sequence: u64) -> Result<Option<StreamMessage>> {
        match self.run(stream.direct_get_next_for_subject(subject, Some(sequence))) {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            // Whatever it is, the leader says it better.
            Err(_) => Ok(None),
        }
    }

    /// Removes the messages of a subject below `sequence`; all of them without.
    pub fn purge(&self, stream: &Stream, subject: &str, below: Option<u64>) -> Result<()> {
        let answer = self.until_answered(
            "purge",
            || {
                let purge = stream.purge().filter(subject);
                match below {
                    Some(below) => self.run(purge.sequence(below).into_future()),
                    None => self.run(purge.into_future()),
                }
            },
            |error| match error.kind() {
                PurgeErrorKind::Request | PurgeErrorKind::TimedOut => true,
                PurgeErrorKind::JetStream(error) => may_pass(error.error_code()),
            },
        )?;
        answer.map(drop).map_err(|error| self.refused("purge", &error))
    }

    /// Removes one message; one that is gone is no error.
    pub fn delete(&self, stream: &Stream, sequence: u64) -> Result<()> {
        let end = Instant::now() + self.address.timeout;
        loop {
            match self.run(stream.delete_message(sequence)) {
                Ok(_) => return Ok(()),
                Err(error) => {
                    // Told apart by looking: a message that is gone was deleted by the try before.
                    let subject = ">";
                    let there = self.next_from_leader(stream, subject, sequence)?;
                    if there.is_none_or(|there| there.sequence != sequence) {
                        return Ok(());
                    }
                    if Instant::now() >= end {
                        return Err(self.away("delete", &error));
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Makes a request of JetStream's interface once, for what need not succeed: whether it was answered well, and soon.
    pub fn once(&self, subject: &str, payload: &serde_json::Value) -> bool {
        let answer = self
            .run(async { tokio::time::timeout(ONCE_TIMEOUT, self.context.request(subject.to_owned(), payload)).await });
        matches!(answer, Ok(Ok(Response::<serde_json::Value>::Ok(_))))
    }

    /// What the stream is set up as now, and what it holds.
    pub fn info(&self, stream: &Stream) -> Result<stream::Info> {
        let answer = self.until_answered("stream info", || self.run(stream.get_info()), |_| true)?;
        answer.map_err(|error| self.refused("stream info", &error))
    }
}

/// A header's value.
pub(super) fn header<'a>(message: &'a StreamMessage, name: &str) -> Option<&'a str> {
    message.headers.get(name).map(|value| value.as_str())
}

/// Errors of a cluster that elects a leader, starts, or has no room just now.
fn may_pass(code: ErrorCode) -> bool {
    [
        ErrorCode::CLUSTER_NOT_AVAILABLE,
        ErrorCode::CLUSTER_NO_PEERS,
        ErrorCode::INSUFFICIENT_RESOURCES,
        ErrorCode::CLUSTER_INCOMPLETE,
        ErrorCode::CLUSTER_NOT_ASSIGNED,
        ErrorCode::CLUSTER_NOT_LEADER,
        ErrorCode::CLUSTER_NOT_ACTIVE,
        ErrorCode::STREAM_STORE_FAILED,
        ErrorCode::STREAM_OFFLINE,
        ErrorCode::STREAM_OFFLINE_REASON,
        ErrorCode::CLUSTER_SERVER_MEMBER_CHANGE_INFLIGHT,
    ]
    .contains(&code)
}
