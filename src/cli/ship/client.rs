//! `push` and `pull`.

use std::io::IsTerminal as _;
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::report::Reporter;
use super::{Client, PullArguments, PushArguments, check_config, default_file, print_line, stop_flag};
use crate::error::{Class, Error, Result};
use crate::queue::{self, Queue, intake};
use crate::ship::client::{Goal, Options, Origin};
use crate::ship::keys::{KeyPair, KnownServers, PublicKey};
use crate::ship::wire::Verb;
use crate::ship::{Address, Cursor, Transport};
use crate::sys::Os;

fn options(client: &Client, address: &str) -> Result<Options> {
    check_config(&client.common)?;
    let address: Address = address.parse()?;
    let channel = queue::fold_name("channel", address.channel.as_deref().unwrap_or(&client.channel))?;
    let identity = if address.is_tls() { Some(identity(client, &address)?) } else { None };
    let common = &client.common;
    let session = getrandom::u64().map_err(|error| Error::new(Class::Io, format!("no random numbers: {error}")))?;
    Ok(Options {
        session,
        address,
        channel,
        identity,
        net_timeout: common.net_timeout.max(std::time::Duration::from_millis(100)),
        connect_retry: client.connect_retry,
        retry_count: client.retry_count,
        level: client.compress.0,
        rate_limit: common.rate_limit,
        report_name: client.report_name.clone(),
        stop: stop_flag(&[SIGTERM, SIGINT, SIGHUP])?,
    })
}

/// Our key, and those of which the server must have one.
fn identity(client: &Client, address: &Address) -> Result<(KeyPair, Vec<PublicKey>)> {
    let key = match &client.key {
        Some(path) => path.clone(),
        None => default_file("ship.key")?,
    };
    let pair = KeyPair::load(&key)?;
    if !client.server_key.is_empty() {
        let keys = client.server_key.iter().map(|text| text.parse::<PublicKey>());
        return Ok((pair, keys.collect::<Result<_>>()?));
    }
    let known = match &client.known_servers {
        Some(path) => path.clone(),
        None => default_file("known_servers")?,
    };
    // One that is not known is told by the handshake, with its key.
    Ok((pair, KnownServers::load(&known)?.keys(&address.server())))
}

/// The name under which a queue is read for a server.
fn reader_name(address: &Address) -> String {
    let place = match &address.transport {
        Transport::Tls { host, port } => format!("{host}-{port}"),
        Transport::Command(_) => address.to_string(),
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let mut name: String = format!("push-{place}").chars().map(plain).collect();
    // The end tells more than the beginning.
    if name.len() > queue::NAME_BYTES_MAX {
        let tail = name.split_off(name.len() - (queue::NAME_BYTES_MAX - "push-".len()));
        name = format!("push-{tail}");
    }
    name
}

pub(super) fn push(arguments: &PushArguments) -> Result<()> {
    let client = &arguments.client;
    let source = arguments.queue.as_deref().or(arguments.from.as_deref()).unwrap_or("-");
    let options = options(client, &arguments.to)?;
    let channel = queue::fold_name("channel", &client.channel)?;
    let origin = if source == "-" {
        if arguments.follow || arguments.reader.is_some() {
            return Err(Error::usage("--follow and --reader are for a queue; standard input is read to its end"));
        }
        if std::io::stdin().is_terminal() && !client.common.check {
            return Err(Error::usage("push reads frames from standard input, which is a terminal")
                .hint("rlog-extract SOURCE | rlog-ship push --to ADDRESS; or name a queue"));
        }
        crate::sys::pipe::enlarge(std::io::stdin());
        Origin::Input
    } else {
        let reader = match arguments.reader.as_deref() {
            Some("none") => None,
            Some(name) => Some(queue::fold_name("reader", name)?),
            None => Some(reader_name(&options.address)),
        };
        Origin::Queue { queue: open(source, &channel, false)?, reader, follow: arguments.follow }
    };
    let cursor = arguments.cursor.as_deref().map(Cursor::open).transpose()?;
    if client.common.check {
        let probe = crate::ship::client::probe(&options, Verb::Put)?;
        if let Some(cursor) = &cursor {
            cursor.check(&probe.welcome.reached, &probe.peer)?;
        }
        let local = match &origin {
            Origin::Queue { queue, .. } => queue.status()?.tail.position(),
            Origin::Input => None,
        };
        return report(client, &options, &probe, local);
    }
    let mut reporter = Reporter::new("push", &options.channel, &client.common, cursor)?;
    let done = crate::ship::client::push(&options, &origin, &mut reporter);
    reporter.finish(done.as_ref().err())?;
    done
}

pub(super) fn pull(arguments: &PullArguments) -> Result<()> {
    let client = &arguments.client;
    let options = options(client, &arguments.from)?;
    let channel = queue::fold_name("channel", &client.channel)?;
    if client.common.check {
        let probe = crate::ship::client::probe(&options, Verb::Get)?;
        let local = match arguments.queue.as_str() {
            "-" => arguments.cursor.as_deref().map(crate::ship::read_cursor).transpose()?.flatten(),
            queue => match open(queue, &channel, false) {
                Ok(queue) => queue.status()?.tail.position(),
                Err(error) if error.class() == Class::NoInput => None,
                Err(error) => return Err(error),
            },
        };
        return report(client, &options, &probe, local);
    }
    let mut cursor = None;
    let goal = if arguments.queue == "-" {
        if std::io::stdout().is_terminal() && !arguments.force {
            return Err(Error::usage("frames are not for a terminal")
                .hint("pipe them into `rlog-dump -` or `rlog-queue put`; `--force` writes them all the same"));
        }
        crate::sys::pipe::enlarge(std::io::stdout());
        Goal::Output(arguments.cursor.clone())
    } else {
        cursor = arguments.cursor.as_deref().map(Cursor::open).transpose()?;
        Goal::Queue {
            queue: open(&arguments.queue, &channel, true)?,
            writer: arguments.storing.writer(client.common.lock_wait),
            intake: intake::Options {
                sync_interval: arguments.storing.sync_interval,
                space_limit: arguments.storing.space_limit,
                stop: Arc::clone(&options.stop),
                address: arguments.queue.clone(),
                ..intake::Options::default()
            },
        }
    };
    // Without a place that says what is safe, nothing can be acknowledged, and nothing need be kept for us.
    let safe = arguments.queue != "-" || arguments.cursor.is_some();
    let reader = Some(arguments.reader.as_str()).filter(|reader| safe && *reader != "none");
    let mut reporter = Reporter::new("pull", &options.channel, &client.common, cursor)?;
    let done = crate::ship::client::pull(&options, &goal, arguments.follow, reader, &mut reporter);
    reporter.finish(done.as_ref().err())?;
    if let (Err(error), Goal::Output(_)) = (&done, &goal)
        && !error.is_broken_pipe()
    {
        // Whoever reads must not take what came for everything.
        crate::extract::write_abort(&mut std::io::stdout(), error);
    }
    done
}

fn open(text: &str, channel: &str, create: bool) -> Result<Box<dyn Queue>> {
    queue::open(Arc::new(Os), &text.parse()?, channel, create)
}

/// What `--check` found.
fn report(
    client: &Client,
    options: &Options,
    probe: &crate::ship::client::Probe,
    local: Option<crate::frame::Position>,
) -> Result<()> {
    let there = probe.welcome.reached.position.as_ref().map(ToString::to_string);
    let here = local.map(|position| position.to_string());
    if client.json {
        let object = serde_json::json!({
            "peer": probe.peer,
            "channel": options.channel,
            "agent": probe.welcome.agent,
            "protocol": probe.welcome.version,
            "there": there,
            "in_snapshot": probe.welcome.reached.in_snapshot,
            "here": here,
        });
        return print_line(&object.to_string());
    }
    let none = || "none".to_owned();
    print_line(&format!("peer         {} ({})", probe.peer, probe.welcome.agent))?;
    print_line(&format!("channel      {}", options.channel))?;
    print_line(&format!("there        {}", there.unwrap_or_else(none)))?;
    print_line(&format!("here         {}", here.unwrap_or_else(none)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_makes_a_readers_name_whatever_it_is_called() {
        for address in [
            "tls://Backup.example:7707",
            "tls://[::1]:9",
            "ssh://u@h/a_very/long/path/that/goes/on/and/on/and/on/and/on/queue",
        ] {
            let name = reader_name(&address.parse().unwrap());
            assert_eq!(queue::fold_name("reader", &name).unwrap(), name);
        }
        assert_eq!(reader_name(&"tls://b.x:7707".parse().unwrap()), "push-b-x-7707");
    }
}
