//! An array of numbers, zeros at first, that takes memory only where it was written and gives it back when it is told to.
//!
//! An anonymous mapping of its own: what was never written is not resident (a page of the system at a time), growing
//! copies nothing, and [`Sparse::clear`] hands the memory to the system at once. An allocator promises none of these: what
//! it was given back it may keep, and a large array that grows lies there twice.

use memmap2::{Advice, MmapMut, MmapOptions, RemapOptions, UncheckedAdvice};

/// Fewest bytes of a mapping.
const BYTES_MIN: usize = 64 << 10;

/// See the module's head.
#[derive(Default)]
pub struct Sparse {
    /// Nothing is mapped before something is set.
    map: Option<MmapMut>,
}

impl Sparse {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    /// The number at `at`; 0 where none was set.
    #[inline]
    pub fn get(&self, at: usize) -> u32 {
        self.bytes().as_chunks::<4>().0.get(at).map_or(0, |cell| u32::from_ne_bytes(*cell))
    }

    /// Sets the number at `at`.
    #[inline]
    pub fn set(&mut self, at: usize, value: u32) {
        if at >= self.bytes().len() / 4 {
            self.grow(at);
        }
        let cells = self.map.as_deref_mut().unwrap_or_default().as_chunks_mut::<4>().0;
        if let Some(cell) = cells.get_mut(at) {
            *cell = value.to_ne_bytes();
        }
    }

    /// The numbers from the first on, and then perhaps some zeros.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.bytes().as_chunks::<4>().0.iter().map(|cell| u32::from_ne_bytes(*cell))
    }

    /// Makes every number 0. Costs a call of the system, and the next number set in each of its pages another.
    pub fn clear(&mut self) {
        let Some(map) = &self.map else { return };
        // SAFETY: nothing borrows from the mapping, since `self` is borrowed alone; of a private anonymous one, this makes zeros.
        if unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) }.is_err() {
            self.map = None;
        }
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
    fn memory_is_taken_where_numbers_are_and_given_back() {
        const NUMBERS: usize = 4 << 20;
        let mut sparse = Sparse::default();
        sparse.set(NUMBERS, 1);
        // A neighbour of the same kind counts as the same mapping.
        assert!(resident_kib(&sparse) < 4 << 10, "one number takes {} KiB", resident_kib(&sparse));
        (0..NUMBERS).for_each(|at| sparse.set(at, 1));
        assert!(resident_kib(&sparse) >= 16 << 10);
        sparse.clear();
        assert!(resident_kib(&sparse) < 4 << 10, "nothing takes {} KiB", resident_kib(&sparse));
    }
}
