//! An array of numbers, zeros at first, that takes memory only where it was written and gives it back when it is told to.
//!
//! An anonymous mapping of its own: what was never written is not resident (a page of the system at a time), growing
//! copies nothing, and [`Sparse::clear`] hands the memory to the system at once. An allocator promises none of these: what
//! it was given back it may keep, and a large array that grows lies there twice.

use memmap2::{Advice, MmapMut, MmapOptions, RemapOptions, UncheckedAdvice};

/// Fewest bytes of a mapping.
const BYTES_MIN: usize = 64 << 10;

/// Greatest number that fits in three bytes.
const NARROW_MAX: u32 = 0xff_ffff;

/// See the module's head. A number takes three bytes, or four from the first one on that needs them.
#[derive(Default)]
pub struct Sparse {
    /// Nothing is mapped before something is set.
    map: Option<MmapMut>,
    is_wide: bool,
}

impl Sparse {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    /// All cells; one of the two is empty.
    #[inline]
    fn cells(&self) -> (&[[u8; 3]], &[[u8; 4]]) {
        if self.is_wide { (&[], self.bytes().as_chunks().0) } else { (self.bytes().as_chunks().0, &[]) }
    }

    /// The number at `at`; 0 where none was set.
    #[inline]
    pub fn get(&self, at: usize) -> u32 {
        if self.is_wide {
            self.cells().1.get(at).map_or(0, |cell| u32::from_le_bytes(*cell))
        } else {
            self.cells().0.get(at).map_or(0, |cell| narrow(*cell))
        }
    }

    /// Sets the number at `at`.
    #[inline]
    pub fn set(&mut self, at: usize, value: u32) {
        if value > NARROW_MAX && !self.is_wide {
            self.widen();
        }
        let (narrow, wide) = self.cells();
        if at >= narrow.len() + wide.len() {
            self.grow(at);
        }
        let bytes = self.map.as_deref_mut().unwrap_or_default();
        let [a, b, c, d] = value.to_le_bytes();
        if self.is_wide {
            if let Some(cell) = bytes.as_chunks_mut().0.get_mut(at) {
                *cell = [a, b, c, d];
            }
        } else if let Some(cell) = bytes.as_chunks_mut().0.get_mut(at) {
            *cell = [a, b, c];
        }
    }

    /// The numbers from the first on, and then perhaps some zeros.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let (narrow_cells, wide) = self.cells();
        narrow_cells.iter().map(|cell| narrow(*cell)).chain(wide.iter().map(|cell| u32::from_le_bytes(*cell)))
    }

    /// Makes every number 0. Costs a call of the system, and the next number set in each of its pages another.
    pub fn clear(&mut self) {
        let Some(map) = &self.map else { return };
        // SAFETY: nothing borrows from the mapping, since `self` is borrowed alone; of a private anonymous one, this makes zeros.
        if unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) }.is_err() {
            self.map = None;
        }
    }

    #[cold]
    fn widen(&mut self) {
        let before = std::mem::take(self);
        self.is_wide = true;
        before.iter().enumerate().filter(|entry| entry.1 != 0).for_each(|(at, value)| self.set(at, value));
    }

    /// Makes room for a number at `at`. As when any other allocation fails, the process ends if there is none.
    #[cold]
    fn grow(&mut self, at: usize) {
        let bytes = (at + at / 2).saturating_mul(4).max(BYTES_MIN).next_multiple_of(BYTES_MIN);
        if let Some(map) = &mut self.map {
            // SAFETY: nothing borrows from the mapping, so it may move.
            if unsafe { map.remap(bytes, RemapOptions::new().may_move(true)) }.is_ok() {
                return;
            }
        }
        let made = MmapOptions::new().len(bytes).no_reserve_swap().map_anon();
        let Ok(mut made) = made else {
            std::alloc::handle_alloc_error(
                std::alloc::Layout::array::<u8>(bytes).unwrap_or(std::alloc::Layout::new::<u8>()),
            )
        };
        // A huge page for one number would be the contrary of sparse. Kernels without them know no such advice.
        let _ = made.advise(Advice::NoHugePage);
        if let (Some(old), Some(new)) = (self.map.as_deref(), made.get_mut(..self.bytes().len())) {
            new.copy_from_slice(old);
        }
        self.map = Some(made);
    }
}

#[inline]
fn narrow([a, b, c]: [u8; 3]) -> u32 {
    u32::from_le_bytes([a, b, c, 0])
}

/// Has the allocator hand to the system what it keeps of memory that it was given back. Takes as long as it takes to look through it.
pub fn give_back() {
    // SAFETY: the call takes no pointer, and may be made at any time from any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KiB of the mapping that are resident.
    fn resident_kib(sparse: &Sparse) -> u64 {
        let start = sparse.bytes().as_ptr() as u64;
        let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut inside, mut kib) = (false, 0);
        for line in text.lines() {
            let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            let parse = |hex| u64::from_str_radix(hex, 16).ok();
            if let Some((from, to)) = range.and_then(|(from, to)| Some((parse(from)?, parse(to)?))) {
                inside = (from..to).contains(&start);
            } else if let Some(rss) = line.strip_prefix("Rss:").filter(|_| inside) {
                kib = rss.split_whitespace().next().unwrap().parse().unwrap();
            }
        }
        kib
    }

    #[test]
    fn numbers_are_kept_through_growth_and_gone_after_clear() {
        let mut sparse = Sparse::default();
        assert_eq!((sparse.get(0), sparse.get(usize::MAX)), (0, 0));
        let places = [0, 1, 1023, 1024, 16_384, 100_000, 5_000_000];
        for (nth, at) in places.iter().enumerate() {
            sparse.set(*at, nth as u32 + 1);
        }
        for (nth, at) in places.iter().enumerate() {
            assert_eq!(sparse.get(*at), nth as u32 + 1);
        }
        assert_eq!(sparse.iter().filter(|value| *value != 0).count(), places.len());
        sparse.clear();
        assert!(sparse.iter().all(|value| value == 0));
        sparse.set(7, 7);
        assert_eq!(sparse.get(7), 7);
    }

    #[test]
    fn numbers_of_every_size_are_kept() {
        let mut sparse = Sparse::default();
        let values = [1, 255, 256, 65_536, NARROW_MAX, NARROW_MAX + 1, 2, u32::MAX, 3];
        for (nth, value) in values.iter().enumerate() {
            sparse.set(nth * 30_000, *value);
            // None of the others has changed by it.
            for (other, value) in values.iter().enumerate().take(nth + 1) {
                assert_eq!(sparse.get(other * 30_000), *value);
            }
            assert_eq!(sparse.iter().filter(|value| *value != 0).count(), nth + 1);
        }
        sparse.set(30_000, 0);
        assert_eq!((sparse.get(30_000), sparse.get(29_999), sparse.get(30_001)), (0, 0, 0));
    }

    #[test]
    fn memory_is_taken_where_numbers_are_and_given_back() {
        const NUMBERS: usize = 4 << 20;
        let mut sparse = Sparse::default();
        sparse.set(NUMBERS, 1);
        // A neighbour of the same kind counts as the same mapping.
        assert!(resident_kib(&sparse) < 4 << 10, "one number takes {} KiB", resident_kib(&sparse));
        (0..NUMBERS).for_each(|at| sparse.set(at, 1));
        assert!(resident_kib(&sparse) >= 12 << 10);
        sparse.clear();
        assert!(resident_kib(&sparse) < 4 << 10, "nothing takes {} KiB", resident_kib(&sparse));
    }
}
