//! Taking little-endian numbers and bytes off the front of an event.

/// Reads an event's data from its front. Every method returns `None` when too few bytes are left.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    /// Reads from the front of `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Bytes<'a> {
        Bytes { rest: bytes }
    }

    /// What is left.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    /// The next `N` bytes as a number; `N` is at most 8.
    #[inline]
    fn number<const N: usize>(&mut self) -> Option<u64> {
        let taken = self.array::<N>()?;
        let mut wide = [0; 8];
        wide.get_mut(..N)?.copy_from_slice(&taken);
        Some(u64::from_le_bytes(wide))
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes.
    #[inline]
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// Three bytes.
    pub fn u24(&mut self) -> Option<u32> {
        self.number::<3>().map(|number| number as u32)
    }

    /// Four bytes.
    #[inline]
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Six bytes.
    #[inline]
    pub fn u48(&mut self) -> Option<u64> {
        self.number::<6>()
    }

    /// Seven bytes.
    pub fn u56(&mut self) -> Option<u64> {
        self.number::<7>()
    }

    /// Eight bytes.
    #[inline]
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A packed integer of the MySQL protocol: 1, 3, 4 or 9 bytes.
    #[inline]
    pub fn packed(&mut self) -> Option<u64> {
        match self.u8()? {
            small @ 0..=250 => Some(u64::from(small)),
            252 => self.u16().map(u64::from),
            253 => self.u24().map(u64::from),
            254 => self.u64(),
            _ => None,
        }
    }

    /// Bytes up to a zero byte, which is taken too.
    pub fn until_zero(&mut self) -> Option<&'a [u8]> {
        let length = memchr::memchr(0, self.rest)?;
        let taken = self.take(length)?;
        self.take(1)?;
        Some(taken)
    }

    /// A length of one byte, then so many bytes.
    pub fn short_text(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }
}
