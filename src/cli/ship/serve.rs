//! `serve`.

use std::io::Write as _;
use std::net::{TcpListener, ToSocketAddrs as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::report::prometheus;
use super::{ServeArguments, check_config, default_file, print_line, stop_flag};
use crate::cli::escape_for_terminal;
use crate::error::{Class, Error, Result};
use crate::queue;
use crate::ship::keys::{AuthorizedKeys, KeyPair};
use crate::ship::serve::{Counters, Log, Options, Server};
use crate::ship::tls::{self, SharedKeys};
use crate::ship::{DEFAULT_PORT, host_port, replace};
use crate::sys::Os;

/// To standard error, for journald or a log file.
struct Lines {
    quiet: bool,
    verbose: bool,
}

impl Lines {
    fn line(text: &str) {
        // Nothing depends on it.
        let _ = writeln!(std::io::stderr(), "rlog-ship: {}", escape_for_terminal(text));
    }
}

impl Log for Lines {
    fn warn(&self, text: &str) {
        if !self.quiet {
            Lines::line(text);
        }
    }

    fn info(&self, text: &str) {
        if self.verbose {
            Lines::line(text);
        }
    }
}

pub(super) fn serve(arguments: &ServeArguments) -> Result<()> {
    let common = &arguments.common;
    check_config(common)?;
    let address: queue::Address = arguments.queue.parse()?;
    let channels = arguments.channel.iter().map(|name| queue::fold_name("channel", name));
    let channels: Vec<String> = channels.collect::<Result<_>>()?;
    let options = Options {
        queue: address,
        queue_text: arguments.queue.clone(),
        put: !arguments.get_only,
        get: !arguments.put_only,
        channels: Some(channels).filter(|channels| !channels.is_empty()),
        net_timeout: common.net_timeout.max(Duration::from_millis(100)),
        handshake_timeout: arguments.handshake_timeout.max(Duration::from_millis(100)),
        connections: arguments.connections.max(1),
        level: arguments.compress.0,
        rate_limit: common.rate_limit,
        space_limit: arguments.storing.space_limit,
        min_free: arguments.min_free,
        writer: arguments.storing.writer(common.lock_wait),
        sync_interval: arguments.storing.sync_interval,
    };
    let log = Lines { quiet: common.quiet, verbose: common.verbose > 0 };
    if arguments.stdio {
        return stdio(arguments, options, log);
    }
    let key_file = match &arguments.key {
        Some(path) => path.clone(),
        None => default_file("ship.key")?,
    };
    let keys_file = match &arguments.authorized_keys {
        Some(path) => path.clone(),
        None => default_file("authorized_keys")?,
    };
    let pair = KeyPair::load(&key_file)?;
    let keys = AuthorizedKeys::load(&keys_file).map_err(|error| match error.class() {
        Class::NoInput => error.hint("a line there for each client: what `rlog-ship keygen` printed on its host"),
        _ => error,
    })?;
    let listening = listeners(&arguments.listen)?;
    if common.check {
        check_queue(&options)?;
        print_line(&format!("key          {}", pair.public()))?;
        for listener in &listening {
            let address = listener.local_addr().map_err(|error| Error::io("listener", error))?;
            print_line(&format!("listen       {address}"))?;
        }
        return print_line(&format!("authorized   {} keys", keys.len()));
    }
    let keys: SharedKeys = Arc::new(RwLock::new(Arc::new(keys)));
    let config = tls::server_config(&pair, &keys)?;
    let reload = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGHUP, Arc::clone(&reload)).map_err(|error| Error::io("signal handlers", error))?;
    let stop = stop_flag(&[SIGTERM, SIGINT])?;
    let server = Arc::new(Server::new(options, Arc::clone(&keys), Box::new(log)));
    if common.verbose > 0 {
        for listener in &listening {
            if let Ok(address) = listener.local_addr() {
                Lines::line(&format!("listening on {address}, key {}", pair.public()));
            }
        }
    }
    notify(&[sd_notify::NotifyState::Ready]);
    let mut clock = Instant::now();
    let mut stopping = false;
    let watchdog = sd_notify::watchdog_enabled();
    let mut tick = || {
        if reload.swap(false, Ordering::Relaxed) {
            match AuthorizedKeys::load(&keys_file) {
                Ok(new) => {
                    if common.verbose > 0 {
                        Lines::line(&format!("{} authorized keys", new.len()));
                    }
                    *keys.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(new);
                }
                // Those that were let in before stay so: a mistyped line locks nobody out.
                Err(error) => Lines::line(&format!("the authorized keys stay as they were: {error}")),
            }
        }
        if stop.load(Ordering::Relaxed) && !stopping {
            stopping = true;
            notify(&[sd_notify::NotifyState::Stopping]);
        }
        if clock.elapsed() >= Duration::from_secs(1) {
            clock = Instant::now();
            if watchdog.is_some() {
                notify(&[sd_notify::NotifyState::Watchdog]);
            }
            if let Some(path) = &common.metrics_file {
                // The next second writes it again.
                let _ = replace(path, &metrics(&server.counters));
            }
        }
    };
    server.listen(&listening, &config, &stop, &mut tick)
}

/// One session. Whatever stands in SSH_ORIGINAL_COMMAND is nobody's business: only our own arguments count.
fn stdio(arguments: &ServeArguments, options: Options, log: Lines) -> Result<()> {
    if arguments.common.check {
        check_queue(&options)?;
        return print_line("stdio        ready");
    }
    let clone = |fd: std::os::fd::BorrowedFd<'_>| {
        fd.try_clone_to_owned().map_err(|error| Error::io("standard input and output", error))
    };
    let input = clone(std::io::stdin().as_fd())?;
    let output = clone(std::io::stdout().as_fd())?;
    let stop = stop_flag(&[SIGTERM, SIGINT, SIGHUP])?;
    // The error is reported by whoever called; once.
    let server = Arc::new(Server::new(options, SharedKeys::default(), Box::new(Lines { quiet: true, ..log })));
    server.stdio(input, output, stop)
}

/// Whether the queue can be opened, or created.
fn check_queue(options: &Options) -> Result<()> {
    match queue::channels(Arc::new(Os), &options.queue) {
        Ok(_) => print_line(&format!("queue        {}", options.queue_text)),
        Err(error) if error.class() == Class::NoInput => {
            print_line(&format!("queue        {} would be created by the first push", options.queue_text))
        }
        Err(error) => Err(error),
    }
}

fn listeners(addresses: &[String]) -> Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for text in addresses {
        // `7707` and `:7707` are all addresses; IPv6 takes IPv4 in.
        let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>().ok();
        let (host, port) = match port {
            Some(port) => ("::".to_owned(), port),
            None => {
                let (host, port) = host_port(text)
                    .ok_or_else(|| Error::usage(format!("`{text}` is no address to listen on: ADDRESS:PORT")))?;
                (host, port.unwrap_or(DEFAULT_PORT))
            }
        };
        let fail = |error: std::io::Error| {
            let class = match error.kind() {
                std::io::ErrorKind::AddrInUse => Class::TryAgain,
                std::io::ErrorKind::PermissionDenied => Class::Permission,
                _ => Class::CannotCreate,
            };
            Error::io(text, error).with_class(class)
        };
        let mut bound = (host.as_str(), port).to_socket_addrs().map_err(fail)?.map(TcpListener::bind);
        let first = bound.next().unwrap_or_else(|| Err(std::io::ErrorKind::AddrNotAvailable.into()));
        let first = match first {
            // A host without IPv6.
            Err(_) if host == "::" => TcpListener::bind(("0.0.0.0", port)),
            other => other,
        };
        listeners.push(first.map_err(fail)?);
    }
    Ok(listeners)
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    // Without a supervisor there is nobody to tell.
    let _ = sd_notify::notify(states);
}

fn metrics(counters: &Counters) -> String {
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    prometheus(
        "rlog_ship_serve",
        "",
        &[
            ("connections_total", "counter", "Connections accepted.", get(&counters.accepted)),
            ("refused_total", "counter", "Connections refused or lost before they were known.", get(&counters.refused)),
            ("sessions", "gauge", "Sessions at work.", get(&counters.active)),
            ("transactions_total", "counter", "Transactions stored.", get(&counters.transactions)),
            ("received_bytes_total", "counter", "Bytes of streams received.", get(&counters.bytes)),
        ],
    )
}
