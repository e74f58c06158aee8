//! The binary log as a replica gets it: registration, the dump, heartbeats, semi-synchronous acknowledgement.
//!
//! Only positions of files are asked for, never GTIDs: a reader that knows in which file and where it stands needs no search by the server, and gets every byte.
//! The reply is one packet an event: a zero byte, with semi-synchronous replication two more (a mark, and whether the server waits
//! for this event), then the event as it stands in the file.

use std::time::Duration;

use super::client::{Client, is_eof};
use super::connect::Family;
use crate::error::{Class, Error, Result};

const COM_BINLOG_DUMP: u8 = 0x12;
const COM_REGISTER_SLAVE: u8 = 0x15;
/// Flag of COM_BINLOG_DUMP: end at the end of the log.
const DUMP_NON_BLOCK: u16 = 1;
/// Flag of COM_BINLOG_DUMP to MariaDB: ANNOTATE_ROWS events too, which it leaves out else.
const DUMP_ANNOTATIONS: u16 = 2;
/// First byte of what semi-synchronous replication adds to packets.
const SEMI_SYNC_MARK: u8 = 0xef;

/// How a replica presents itself.
#[derive(Clone, Debug)]
pub struct ReplicaOptions {
    /// Its server id; unlike that of every other replica and of the server.
    pub server_id: u32,
    /// Its name in SHOW SLAVE HOSTS and SHOW REPLICAS.
    pub report_name: String,
    /// How often an idle server has to say that it is there.
    pub heartbeat: Duration,
    /// Whether the server may wait for acknowledgements.
    pub semi_sync: bool,
}

impl ReplicaOptions {
    /// A UUID that follows from the server id: MySQL ends an older dump of the same UUID.
    fn uuid(&self) -> String {
        let hash = crc32fast::hash(self.report_name.as_bytes());
        format!("726c6f67-{:04x}-{:04x}-8000-0000{:08x}", hash >> 16, hash & 0xffff, self.server_id)
    }
}

/// What [`Replica::next`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An event; whether the server waits for its acknowledgement.
    Event(bool),
    /// None came in time.
    Nothing,
    /// The log has ended (only when that was asked for).
    End,
}

/// A dump under way.
pub struct Replica {
    client: Client,
    semi_sync: bool,
    head: usize,
}

impl Replica {
    /// Registers and asks for the log from byte `at` of `file` on; with `to_end` only up to the log's present end.
    pub fn start(mut client: Client, options: &ReplicaOptions, file: &str, at: u64, to_end: bool) -> Result<Replica> {
        let semi_sync = options.semi_sync && !to_end;
        let at = u32::try_from(at).map_err(|_| {
            Error::new(
                Class::Unavailable,
                format!("a server cannot be asked for byte {at} of a log: 4 GiB are the limit"),
            )
        })?;
        let heartbeat = options.heartbeat.as_nanos();
        let mut settings = format!(
            "SET @master_binlog_checksum='CRC32', @master_heartbeat_period={heartbeat}, @slave_uuid='{}'",
            options.uuid()
        );
        match client.family {
            Family::MariaDb => settings.push_str(", @mariadb_slave_capability=4"),
            Family::MySql => settings.push_str(&format!(
                ", @source_binlog_checksum='CRC32', @source_heartbeat_period={heartbeat}, @replica_uuid='{}'",
                options.uuid()
            )),
        }
        if semi_sync {
            settings.push_str(", @rpl_semi_sync_slave=1, @rpl_semi_sync_replica=1");
        }
        client.run(&settings)?;
        if !to_end {
            let mut command = vec![COM_REGISTER_SLAVE];
            command.extend_from_slice(&options.server_id.to_le_bytes());
            let name = options.report_name.as_bytes();
            let name = name.get(..name.len().min(60)).unwrap_or(name);
            command.push(name.len() as u8);
            command.extend_from_slice(name);
            // User, password, port, rank, the server's own id: nothing to say.
            command.extend_from_slice(&[0; 2 + 2 + 4 + 4]);
            client.command(&command)?;
            client.expect_ok("registering as a replica")?;
        }
        let mut command = vec![COM_BINLOG_DUMP];
        command.extend_from_slice(&at.to_le_bytes());
        let annotations = if client.family == Family::MariaDb { DUMP_ANNOTATIONS } else { 0 };
        let flags = annotations | if to_end { DUMP_NON_BLOCK } else { 0 };
        command.extend_from_slice(&flags.to_le_bytes());
        command.extend_from_slice(&options.server_id.to_le_bytes());
        command.extend_from_slice(file.as_bytes());
        client.command(&command)?;
        Ok(Replica { client, semi_sync, head: 1 })
    }

    /// Waits up to `timeout` for the next event.
    #[inline]
    pub fn next(&mut self, timeout: Duration) -> Result<Next> {
        if !self.client.wait(timeout)? {
            return Ok(Next::Nothing);
        }
        let packet = self.client.packet();
        match packet.first() {
            Some(0) => {}
            Some(0xff) => return Err(self.client.server_error("the server ended the dump of its log")),
            _ if is_eof(packet) => return Ok(Next::End),
            _ => return Err(Error::damage("the server's reply is no event").in_file(self.client.name().to_owned())),
        }
        self.head = 1;
        let mut wanted = false;
        if self.semi_sync && packet.get(1) == Some(&SEMI_SYNC_MARK) {
            wanted = packet.get(2) == Some(&1);
            self.head = 3;
        }
        Ok(Next::Event(wanted))
    }

    /// The event at hand.
    #[inline]
    pub fn event(&self) -> &[u8] {
        self.client.packet().get(self.head..).unwrap_or(&[])
    }

    /// Whether bytes have arrived that were not read.
    pub fn has_buffered(&self) -> bool {
        self.client.has_buffered()
    }

    /// Number of the error that the server told; 0: none.
    pub fn error_code(&self) -> u16 {
        self.client.error_code
    }

    /// Tells the server that everything up to byte `end` of `file` is safe.
    pub fn acknowledge(&mut self, file: &str, end: u64) -> Result<()> {
        let mut packet = vec![SEMI_SYNC_MARK];
        packet.extend_from_slice(&end.to_le_bytes());
        packet.extend_from_slice(file.as_bytes());
        self.client.command(&packet)
    }
}
