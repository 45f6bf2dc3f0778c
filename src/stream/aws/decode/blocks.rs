//! The memory that records lie in.
//!
//! A block that is taken from the system and given back costs a page fault for every 4 KiB, and is cold. So the last
//! record of a block gives it back to the client, which fills it again while it may still be in the processor's cache.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

/// Payloads share blocks of so many bytes. A larger block is kept alive longer by the last record that is still held; a
/// smaller one means more allocations.
const BLOCK_BYTES: usize = 256 * 1024;
/// Blocks kept for the next answers, 4 MiB: what is decoded at once on a few threads. What lies in queues is more, and
/// goes back to the system.
const MOST_KEPT: usize = 16;

/// Blocks that are free. Clones share them.
#[derive(Debug, Clone, Default)]
pub(in crate::stream::aws) struct Blocks(Arc<Mutex<Vec<Vec<u8>>>>);

impl Blocks {
    /// An empty block with room for `bytes`; `to_come` is how much is still to come in all, where that is known: no
    /// block needs to be larger.
    pub(super) fn take(&self, bytes: usize, to_come: Option<usize>) -> Vec<u8> {
        let useful = to_come.unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES).max(bytes);
        // What is much smaller, as the last of an answer is, would keep a whole block alive.
        let free = if (BLOCK_BYTES / 2..=BLOCK_BYTES).contains(&useful) { self.kept().pop() } else { None };
        free.unwrap_or_else(|| Vec::with_capacity(useful))
    }

    /// The block as bytes to cut records from; it comes back when the last of them is dropped.
    pub(super) fn share(&self, block: Vec<u8>) -> Bytes {
        if block.capacity() == BLOCK_BYTES { Bytes::from_owner(Lent { block, home: self.clone() }) } else { Bytes::from(block) }
    }

    fn give_back(&self, mut block: Vec<u8>) {
        block.clear();
        let mut kept = self.kept();
        if kept.len() < MOST_KEPT {
            kept.push(block);
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A block that records are slices of.
struct Lent {
    block: Vec<u8>,
    home: Blocks,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.block
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give_back(mem::take(&mut self.block));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(blocks: &Blocks, byte: u8) -> Bytes {
        let mut block = blocks.take(1, None);
        block.push(byte);
        blocks.share(block)
    }

    #[test]
    fn a_block_is_used_again_when_its_last_record_is_gone() {
        let blocks = Blocks::default();
        let whole = filled(&blocks, 7);
        let (address, record) = (whole.as_ptr(), whole.slice(..));
        drop(whole);
        assert_ne!(filled(&blocks, 8).as_ptr(), address, "a record still lies in the first");
        assert_eq!(record[..], [7]);
        drop(record);
        let again = filled(&blocks, 9);
        assert_eq!((again.as_ptr(), &again[..]), (address, &[9][..]));
    }

    #[test]
    fn no_more_blocks_are_kept_than_a_few() {
        let blocks = Blocks::default();
        drop((0..100).map(|n| filled(&blocks, n)).collect::<Vec<_>>());
        assert_eq!(blocks.kept().len(), MOST_KEPT);
    }

    #[test]
    fn what_is_larger_or_much_smaller_has_memory_of_its_own() {
        let blocks = Blocks::default();
        drop(filled(&blocks, 1));
        for (bytes, to_come, capacity) in [(10, Some(1000), 1000), (BLOCK_BYTES + 1, None, BLOCK_BYTES + 1), (5000, Some(4000), 5000)] {
            let block = blocks.take(bytes, to_come);
            assert_eq!(block.capacity(), capacity);
            drop(blocks.share(block));
        }
        assert_eq!(blocks.kept().len(), 1);
        assert_eq!(blocks.take(10, Some(BLOCK_BYTES - 1)).capacity(), BLOCK_BYTES);
        assert!(blocks.kept().is_empty());
    }
}
