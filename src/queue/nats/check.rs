//! What a server's version and settings do not promise.

use std::io::{Read as _, Write as _};
use std::net::ToSocketAddrs as _;
use std::time::Duration;

use async_nats::jetstream::stream::{StorageType, Stream};

use crate::error::Result;

use super::client::Client;

/// Largest answer of a server's monitoring that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
const MONITOR_TIMEOUT: Duration = Duration::from_secs(3);

/// Remarks for people.
pub(super) fn remarks(client: &Client, frames: &Stream) -> Result<Vec<String>> {
    let mut out = Vec::new();
    let version = client.server_version();
    let known = crate::sys::units::version(&version);
    if known < (2, 10, 0) {
        out.push(format!("server {version} knows no `sync_interval: always`; use 2.10.23 or later"));
    } else if known < (2, 10, 23) {
        out.push(format!(
            "server {version} may lose acknowledged messages when its process is killed; use 2.10.23 or later"
        ));
    }
    let info = client.info(frames)?;
    if info.config.storage == StorageType::Memory {
        out.push("the stream is kept in memory: it ends with its servers".to_owned());
    }
    match info.config.num_replicas {
        0 | 1 => out.push(
            "the stream has one copy: while its server is away, put and get wait; if its disk is lost, so is the queue"
                .to_owned(),
        ),
        2 => out.push("the stream has two copies: while either server is away, put waits; use replicas=3".to_owned()),
        _ => {}
    }
    if let Some(cluster) = &info.cluster {
        for replica in cluster.replicas.iter().filter(|replica| replica.offline || !replica.current) {
            out.push(format!(
                "the copy on {} is {}",
                replica.name,
                if replica.offline { "away" } else { "not current" }
            ));
        }
    }
    out.push(match client.address.monitor {
        None => "sync_interval cannot be seen from here (its default is two minutes, which an acknowledged record may be lost for with the \
             power); monitor=PORT of the address lets it be looked up"
            .to_owned(),
        Some(port) => match jetstream_settings(client, port) {
            Ok(settings) if settings.get("sync_always").and_then(serde_json::Value::as_bool) == Some(true) => {
                "sync_interval is `always` on the server that answered; look at the others as well".to_owned()
            }
            Ok(settings) => {
                let nanoseconds = settings.get("sync_interval").and_then(serde_json::Value::as_u64).unwrap_or(120_000_000_000);
                format!(
                    "sync_interval is {} s: what was acknowledged since may be lost with the power; set `sync_interval: always`",
                    nanoseconds / 1_000_000_000
                )
            }
            Err(why) => format!("the monitoring port {port} does not answer: {why}"),
        },
    });
    out.push(
        "whatever the settings, an acknowledgement does not count as safe from a loss of power (nats-server#7549): rlog-extract --confirm \
         confirms what every reader has acknowledged, not what is queued"
            .to_owned(),
    );
    Ok(out)
}

/// The settings of JetStream, from the server's monitoring over HTTP.
fn jetstream_settings(client: &Client, port: u16) -> std::result::Result<serde_json::Value, String> {
    let host = client.address.hosts.first().cloned().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(client.server_host(), |(host, _)| host.to_owned());
    let bare = host.trim_matches(['[', ']']);
    let address = (bare, port).to_socket_addrs().map_err(|error| error.to_string())?.next().ok_or("no such host")?;
    let connected = std::net::TcpStream::connect_timeout(&address, MONITOR_TIMEOUT);
    let mut connection = connected.map_err(|error| error.to_string())?;
    let mut ask = || -> std::io::Result<Vec<u8>> {
        connection.set_read_timeout(Some(MONITOR_TIMEOUT))?;
        connection.set_write_timeout(Some(MONITOR_TIMEOUT))?;
        write!(connection, "GET /jsz?config=true HTTP/1.0\r\nHost: {bare}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        (&connection).take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| error.to_string())?;
    let body = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map_or(&[][..], |at| answer.get(at + 4..).unwrap_or(&[]));
    let value: serde_json::Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    value.get("config").cloned().ok_or_else(|| "its answer has no `config`".to_owned())
}
