//! A simulated disk for tests: every call can fail, and the power can be cut between any two.
//!
//! Each file has the bytes that a process sees, the bytes that are on the disk, and the writes between them in order;
//! each directory has the same for its names. [`File::sync`] and [`Dir::sync`] bring the two together. A **power cut** ([`SimDisk::cut`])
//! keeps or loses every unsynced write by sectors of 512 bytes, may keep a file's length without its data (zeros), and
//! keeps or loses every unsynced create, rename and removal by itself, as a [`Choose`] decides. A **kill**
//! ([`SimDisk::kill`]) keeps what the process saw. Either returns a disk with all locks free.
//!
//! What may go wrong: all of the above; any call returns an error of one's choice, once or from then on; a write is
//! short; the disk is full; a failed sync drops the writes from the cache's dirty list, so that the next sync
//! succeeds and the bytes are seen until the power is cut. What never does: synced bytes change by themselves (tests flip
//! those through [`SimDisk::damage`]); a rename is seen half done.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::vfs::{Access, Dir, File, Lock, Vfs, Watch};

/// Bytes that are written whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// Decides what a power cut leaves.
pub trait Choose {
    /// A number below `count`, which is at least 1.
    fn choose(&mut self, count: usize) -> usize;
}

/// Random choices; the same seed gives the same.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// From a seed.
    pub fn new(seed: u64) -> Seeded {
        Seeded(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }
}

impl Choose for Seeded {
    fn choose(&mut self, count: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % count.max(1) as u64) as usize
    }
}

/// All choices, one run after another: `while choices.more() { … choices … }`.
#[derive(Clone, Debug, Default)]
pub struct Every {
    taken: Vec<(usize, usize)>,
    at: usize,
    begun: bool,
}

impl Every {
    /// Before the first run.
    pub fn new() -> Every {
        Every::default()
    }

    /// Moves to the next run; `false` when there was every one.
    pub fn more(&mut self) -> bool {
        self.at = 0;
        if !self.begun {
            self.begun = true;
            return true;
        }
        while let Some((taken, count)) = self.taken.pop() {
            if taken + 1 < count {
                self.taken.push((taken + 1, count));
                return true;
            }
        }
        false
    }
}

impl Choose for Every {
    fn choose(&mut self, count: usize) -> usize {
        let at = self.at;
        self.at += 1;
        match self.taken.get(at) {
            Some((taken, _)) => *taken,
            None => {
                self.taken.push((0, count));
                0
            }
        }
    }
}

/// What goes wrong at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies: this call and all later ones fail, a write at hand may be partly done.
    Die,
    /// The call fails with this error and does nothing. A failed sync loses the writes that it was to keep.
    Error(io::ErrorKind),
    /// A write writes one byte; other calls are as usual.
    Short,
}

/// A bug in what the disk is asked to do, to prove that tests can fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plant {
    /// No bug.
    #[default]
    None,
    /// Syncs of files do nothing.
    SkipFileSync,
    /// Syncs of directories do nothing.
    SkipDirSync,
}

#[derive(Clone, Debug)]
enum Write {
    Bytes { at: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Debug, Default)]
struct FileNode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Write>,
}

#[derive(Clone, Debug)]
enum Change {
    Add(String, usize),
    Remove(String),
    Rename(String, String, usize),
}

#[derive(Clone, Debug, Default)]
struct DirNode {
    seen: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Clone, Debug, Default)]
struct State {
    nodes: Vec<Node>,
    locks: BTreeSet<(usize, String)>,
    calls: u64,
    fault: Option<(u64, Fault, bool)>,
    dead: bool,
    capacity: Option<usize>,
    plant: Plant,
}

/// A disk. Clones are handles of the same one.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

const ROOT: usize = 0;

impl SimDisk {
    /// An empty disk.
    pub fn new() -> SimDisk {
        SimDisk::from_state(State { nodes: vec![Node::Dir(DirNode::default())], ..State::default() })
    }

    fn from_state(state: State) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `fault` happen at the `call`-th call from now (0: the next), or with `for_ever` at every call from there on.
    /// Calls that only read are not counted.
    pub fn fault_at(&self, call: u64, fault: Fault, for_ever: bool) {
        let mut state = self.state();
        state.fault = Some((state.calls + call, fault, for_ever));
    }

    /// Calls so far that change something or sync.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Whether the fault was met.
    pub fn fault_was_met(&self) -> bool {
        let state = self.state();
        state.fault.is_none_or(|(at, ..)| state.calls > at)
    }

    /// Frees all locks, whoever holds them: as a network file system may, or whoever removes a lock's file.
    pub fn lose_locks(&self) {
        self.state().locks.clear();
    }

    /// Bytes that fit; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.state().capacity = bytes;
    }

    /// Bytes that are occupied.
    pub fn used(&self) -> usize {
        self.state().used()
    }

    /// Plants a bug.
    pub fn plant(&self, plant: Plant) {
        self.state().plant = plant;
    }

    /// Changes bytes of a file, seen and durable, as a failing medium would. Returns `None` when there is no such file.
    pub fn damage(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> Option<()> {
        let mut state = self.state();
        let node = state.find(Path::new(path)).ok()?;
        let Some(Node::File(file)) = state.nodes.get_mut(node) else { return None };
        change(&mut file.seen);
        file.durable.clone_from(&file.seen);
        file.pending.clear();
        Some(())
    }

    /// The disk as the next process finds it after the first was killed.
    pub fn kill(&self) -> SimDisk {
        let mut state = self.state().clone();
        state.revive();
        SimDisk::from_state(state)
    }

    /// The disk as it is found after the power was cut.
    pub fn cut(&self, choices: &mut dyn Choose) -> SimDisk {
        let mut state = self.state().clone();
        for node in &mut state.nodes {
            match node {
                Node::File(file) => file.cut(choices),
                Node::Dir(dir) => dir.cut(choices),
            }
        }
        state.revive();
        SimDisk::from_state(state)
    }
}

impl FileNode {
    fn cut(&mut self, choices: &mut dyn Choose) {
        let mut left = std::mem::take(&mut self.durable);
        for write in std::mem::take(&mut self.pending) {
            match write {
                Write::Length(length) => {
                    if choices.choose(2) == 1 {
                        left.resize(length, 0);
                    }
                }
                Write::Bytes { at, bytes } => {
                    let sectors = (at % SECTOR_BYTES + bytes.len()).div_ceil(SECTOR_BYTES);
                    let whole = (1usize << sectors.min(16)) - 1;
                    // Nothing, everything, the length without the data, all but the first or the last, any subset.
                    let kept = match choices.choose(if sectors > 1 { 6 } else { 3 }) {
                        0 => continue,
                        1 => whole,
                        2 => 0,
                        3 => whole >> 1,
                        4 => whole & !1,
                        _ => choices.choose(whole + 1),
                    };
                    let end = at + bytes.len();
                    if left.len() < end {
                        left.resize(end, 0);
                    }
                    for (offset, byte) in bytes.iter().enumerate() {
                        let sector = (at % SECTOR_BYTES + offset) / SECTOR_BYTES;
                        if kept >> (sector % 16) & 1 == 1
                            && let Some(room) = left.get_mut(at + offset)
                        {
                            *room = *byte;
                        }
                    }
                }
            }
        }
        self.seen.clone_from(&left);
        self.durable = left;
    }
}

impl DirNode {
    fn cut(&mut self, choices: &mut dyn Choose) {
        let mut left = std::mem::take(&mut self.durable);
        for change in std::mem::take(&mut self.pending) {
            if choices.choose(2) == 0 {
                continue;
            }
            match change {
                Change::Add(name, node) => {
                    left.insert(name, node);
                }
                Change::Remove(name) => {
                    left.remove(&name);
                }
                Change::Rename(from, to, node) => {
                    left.remove(&from);
                    left.insert(to, node);
                }
            }
        }
        self.seen.clone_from(&left);
        self.durable = left;
    }
}

impl State {
    fn revive(&mut self) {
        self.locks.clear();
        self.fault = None;
        self.dead = false;
    }

    fn used(&self) -> usize {
        let linked: BTreeSet<usize> = self.linked();
        linked
            .iter()
            .filter_map(|node| match self.nodes.get(*node) {
                Some(Node::File(file)) => Some(file.seen.len()),
                _ => None,
            })
            .sum()
    }

    fn linked(&self) -> BTreeSet<usize> {
        let dirs = self.nodes.iter().filter_map(|node| match node {
            Node::Dir(dir) => Some(dir),
            Node::File(_) => None,
        });
        dirs.flat_map(|dir| dir.seen.values().copied()).collect()
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut node = ROOT;
        for component in path.components() {
            if let Component::Normal(name) = component {
                node = self.lookup(node, &name.to_string_lossy())?;
            }
        }
        Ok(node)
    }

    fn lookup(&self, dir: usize, name: &str) -> io::Result<usize> {
        match self.nodes.get(dir) {
            Some(Node::Dir(dir)) => dir.seen.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into()),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn dir(&mut self, node: usize) -> io::Result<&mut DirNode> {
        match self.nodes.get_mut(node) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&mut self, node: usize) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(node) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// A process that is dead sees nothing more.
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the simulated process is dead")) } else { Ok(()) }
    }

    /// Counts a call; tells what goes wrong with it.
    fn call(&mut self) -> io::Result<Option<Fault>> {
        self.alive()?;
        let call = self.calls;
        self.calls += 1;
        let Some((at, fault, for_ever)) = self.fault else { return Ok(None) };
        if call != at && !(for_ever && call > at) {
            return Ok(None);
        }
        self.dead |= fault == Fault::Die;
        Ok(Some(fault))
    }

    /// Like `call`, for calls that either happen or not.
    fn whole_call(&mut self) -> io::Result<()> {
        match self.call()? {
            Some(Fault::Die) => Err(io::Error::other("the simulated process dies")),
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::Short) | None => Ok(()),
        }
    }

    fn change(&mut self, dir: usize, change: Change) -> io::Result<()> {
        let dir = self.dir(dir)?;
        match &change {
            Change::Add(name, node) => {
                dir.seen.insert(name.clone(), *node);
            }
            Change::Remove(name) => {
                dir.seen.remove(name);
            }
            Change::Rename(from, to, node) => {
                dir.seen.remove(from);
                dir.seen.insert(to.clone(), *node);
            }
        }
        dir.pending.push(change);
        Ok(())
    }

    fn create_dir(&mut self, parent: usize, name: &str) -> io::Result<()> {
        self.whole_call()?;
        if self.dir(parent)?.seen.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = self.nodes.len();
        self.nodes.push(Node::Dir(DirNode::default()));
        self.change(parent, Change::Add(name.to_owned(), node))
    }

    fn sync_dir(&mut self, node: usize) -> io::Result<()> {
        self.whole_call()?;
        if self.plant == Plant::SkipDirSync {
            return Ok(());
        }
        let dir = self.dir(node)?;
        dir.durable.clone_from(&dir.seen);
        dir.pending.clear();
        Ok(())
    }
}

impl Vfs for SimDisk {
    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Dir>> {
        let mut state = self.state();
        state.alive()?;
        let node = state.find(path)?;
        state.dir(node)?;
        Ok(Arc::new(SimDir { disk: self.clone(), node }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let parent = state.find(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
        state.create_dir(parent, &name)?;
        state.sync_dir(parent)
    }
}

#[derive(Debug)]
struct SimDir {
    disk: SimDisk,
    node: usize,
}

impl Dir for SimDir {
    fn open_dir(&self, name: &str) -> io::Result<Arc<dyn Dir>> {
        let mut state = self.disk.state();
        state.alive()?;
        let node = state.lookup(self.node, name)?;
        state.dir(node)?;
        Ok(Arc::new(SimDir { disk: self.disk.clone(), node }))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.disk.state().create_dir(self.node, name)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn File>> {
        let mut state = self.disk.state();
        state.alive()?;
        let node = match (state.lookup(self.node, name), access) {
            (Ok(_), Access::Create) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Ok(node), _) => node,
            (Err(_), Access::Create) => {
                state.whole_call()?;
                let node = state.nodes.len();
                state.nodes.push(Node::File(FileNode::default()));
                state.change(self.node, Change::Add(name.to_owned(), node))?;
                node
            }
            (Err(error), _) => return Err(error),
        };
        state.file(node)?;
        Ok(Box::new(SimFile { disk: self.disk.clone(), node }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.disk.state();
        state.whole_call()?;
        let node = state.lookup(self.node, from)?;
        state.change(self.node, Change::Rename(from.to_owned(), to.to_owned(), node))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.disk.state();
        state.whole_call()?;
        let node = state.lookup(self.node, name)?;
        state.file(node)?;
        state.change(self.node, Change::Remove(name.to_owned()))
    }

    fn remove_dir(&self, name: &str) -> io::Result<()> {
        let mut state = self.disk.state();
        state.whole_call()?;
        let node = state.lookup(self.node, name)?;
        if !state.dir(node)?.seen.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.change(self.node, Change::Remove(name.to_owned()))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.state().sync_dir(self.node)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.disk.state();
        state.alive()?;
        Ok(state.dir(self.node)?.seen.keys().cloned().collect())
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Lock>> {
        let mut state = self.disk.state();
        state.alive()?;
        if state.lookup(self.node, name).is_err() {
            let node = state.nodes.len();
            state.nodes.push(Node::File(FileNode::default()));
            state.change(self.node, Change::Add(name.to_owned(), node))?;
        }
        let key = (self.node, name.to_owned());
        if !state.locks.insert(key.clone()) {
            return Ok(None);
        }
        Ok(Some(Box::new(SimLock { disk: self.disk.clone(), key })))
    }

    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        Ok(Box::new(SimWatch))
    }

    fn check_owner(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.disk.state();
        Ok(state.capacity.map_or(1 << 40, |capacity| capacity.saturating_sub(state.used()) as u64))
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    key: (usize, String),
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.key);
    }
}

#[derive(Debug)]
struct SimWatch;

impl Watch for SimWatch {
    fn wait(&mut self, _timeout: Duration) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    node: usize,
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.alive()?;
        let seen = &state.file(self.node)?.seen;
        let rest = usize::try_from(at).ok().and_then(|at| seen.get(at..)).unwrap_or(&[]);
        let count = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let fault = state.call()?;
        let at = usize::try_from(at).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let wanted = match fault {
            Some(Fault::Error(kind)) => return Err(kind.into()),
            Some(Fault::Short) => bytes.len().min(1),
            // Killed in the middle of it.
            Some(Fault::Die) => bytes.len() / 2,
            None => bytes.len(),
        };
        let used = state.used();
        let room = state.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(used));
        let length = state.file(self.node)?.seen.len();
        let fits = wanted.min(length.saturating_sub(at).saturating_add(room));
        if fits == 0 && wanted > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let part = bytes.get(..fits).unwrap_or(&[]).to_vec();
        let file = state.file(self.node)?;
        if file.seen.len() < at + fits {
            file.seen.resize(at + fits, 0);
        }
        if let Some(room) = file.seen.get_mut(at..at + fits) {
            room.copy_from_slice(&part);
        }
        file.pending.push(Write::Bytes { at, bytes: part });
        match fault {
            Some(Fault::Die) => Err(io::Error::other("the simulated process dies")),
            _ => Ok(fits),
        }
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.alive()?;
        Ok(state.file(self.node)?.seen.len() as u64)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.whole_call()?;
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let file = state.file(self.node)?;
        file.seen.resize(length, 0);
        file.pending.push(Write::Length(length));
        Ok(())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.whole_call()?;
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let used = state.used();
        let room = state.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(used));
        let file = state.file(self.node)?;
        if length.saturating_sub(file.seen.len()) > room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let length = length.max(file.seen.len());
        file.seen.resize(length, 0);
        file.pending.push(Write::Length(length));
        Ok(())
    }

    fn is_linked(&self) -> io::Result<bool> {
        let state = self.disk.state();
        state.alive()?;
        Ok(state.linked().contains(&self.node))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let result = state.whole_call();
        let planted = state.plant == Plant::SkipFileSync;
        let dead = state.dead;
        let file = state.file(self.node)?;
        match result {
            Ok(()) if planted => {}
            Ok(()) => {
                // What an earlier sync failed to write is clean by now and stays lost: only what is pending is written.
                for write in std::mem::take(&mut file.pending) {
                    match write {
                        Write::Length(length) => file.durable.resize(length, 0),
                        Write::Bytes { at, bytes } => {
                            if file.durable.len() < at + bytes.len() {
                                file.durable.resize(at + bytes.len(), 0);
                            }
                            if let Some(room) = file.durable.get_mut(at..at + bytes.len()) {
                                room.copy_from_slice(&bytes);
                            }
                        }
                    }
                }
            }
            Err(_) if !dead => file.pending.clear(),
            Err(_) => {}
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with(sync_file: bool, sync_dir: bool) -> SimDisk {
        let disk = SimDisk::new();
        let dir = disk.open_dir(Path::new("")).unwrap();
        let file = dir.open("a", Access::Create).unwrap();
        file.write_all_at(&[7; 1500], 0).unwrap();
        if sync_file {
            file.sync().unwrap();
        }
        if sync_dir {
            dir.sync().unwrap();
        }
        disk
    }

    fn content(disk: &SimDisk) -> Option<Vec<u8>> {
        let dir = disk.open_dir(Path::new("")).unwrap();
        let file = dir.open("a", Access::Read).ok()?;
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_full_at(&mut bytes, 0).unwrap();
        Some(bytes)
    }

    #[test]
    fn every_power_cut_of_an_unsynced_file_is_tried() {
        let mut found = BTreeSet::new();
        let mut choices = Every::new();
        let disk = disk_with(false, false);
        while choices.more() {
            found.insert(content(&disk.cut(&mut choices)));
        }
        assert!(found.contains(&None), "no name");
        assert!(found.contains(&Some(Vec::new())), "no data");
        assert!(found.contains(&Some(vec![0; 1500])), "length without data");
        assert!(found.contains(&Some(vec![7; 1500])), "all of it");
        assert!(found.contains(&Some([vec![7; 512], vec![0; 512], vec![7; 476]].concat())), "two sectors of three");
    }

    #[test]
    fn what_is_synced_stays_and_a_kill_loses_nothing() {
        let mut choices = Every::new();
        let disk = disk_with(true, true);
        while choices.more() {
            assert_eq!(content(&disk.cut(&mut choices)), Some(vec![7; 1500]));
        }
        assert_eq!(content(&disk_with(false, false).kill()), Some(vec![7; 1500]));
    }

    #[test]
    fn a_failed_sync_loses_the_writes_and_the_next_one_succeeds() {
        let disk = disk_with(false, true);
        let file = disk.open_dir(Path::new("")).unwrap().open("a", Access::Write).unwrap();
        disk.fault_at(0, Fault::Error(io::ErrorKind::Other), false);
        assert!(file.sync().is_err());
        file.sync().unwrap();
        assert_eq!(content(&disk), Some(vec![7; 1500]), "it is still seen");
        assert_eq!(content(&disk.cut(&mut Seeded::new(1))), Some(Vec::new()));
    }
}
