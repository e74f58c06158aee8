//! File systems whose files other hosts may change: there, shared memory and locks of one host are not those of another.

use std::path::Path;

/// Magic numbers of statfs(2), and names.
const NETWORK: [(u32, &str); 12] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x564c, "NCP"),
    (0x5346_414f, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
];

/// The name of the network or cluster file system that holds `path`; `None`: it is another kind, or cannot be told (FUSE may be either).
pub fn file_system(path: &Path) -> Option<&'static str> {
    named(rustix::fs::statfs(path).ok()?.f_type as u32)
}

fn named(magic: u32) -> Option<&'static str> {
    NETWORK.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_hosts_may_change_is_told_from_what_is_ours() {
        assert_eq!(named(0x6969), Some("NFS"));
        // ext4, tmpfs, overlayfs, btrfs, xfs.
        for local in [0xef53, 0x0102_1994, 0x794c_7630, 0x9123_683e, 0x5846_5342] {
            assert_eq!(named(local), None);
        }
        assert_eq!(file_system(Path::new("/proc/self")), None);
        assert_eq!(file_system(Path::new("/no/such/place")), None);
    }
}
