//! Lesson 7: memory for a program that lives a moment. It is taken piece after piece from the front, and given back all at
//! once, by the kernel, when the program ends.
//!
//! A general allocator keeps books, asks the kernel for pages and gives them back, some hundred times until a container
//! runs. None of it pays for a program that has ended before it could use anything a second time. What was taken last can
//! be given back, though: so a loop that runs for hours needs no more than a short one.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How much is asked of the kernel at a time, in bytes.
const CHUNK: usize = 1 << 20;

/// As malloc's (man 3 malloc): some code takes bytes and puts larger things into them.
const ALIGNMENT: usize = 16;

/// The allocator: `#[global_allocator] static MEMORY: Arena = Arena::new();`
#[derive(Debug)]
pub struct Arena {
    /// The first byte that is free, and the first that is not ours.
    next: AtomicUsize,
    end: AtomicUsize,
    /// Held by the thread that changes them. The runtime has one thread; tests have many.
    busy: AtomicBool,
}

impl Arena {
    /// An arena without memory: it comes with the first request.
    pub const fn new() -> Arena {
        Arena { next: AtomicUsize::new(0), end: AtomicUsize::new(0), busy: AtomicBool::new(false) }
    }

    fn locked<T>(&self, work: impl FnOnce() -> T) -> T {
        while self.busy.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        let result = work();
        self.busy.store(false, Ordering::Release);
        result
    }

    /// Takes from the front; 0 if there is no more memory.
    fn take(&self, layout: Layout) -> usize {
        let align = layout.align().max(ALIGNMENT);
        let start = self.next.load(Ordering::Relaxed).next_multiple_of(align);
        let Some(end) = start.checked_add(layout.size()) else { return 0 };
        if start != 0 && end <= self.end.load(Ordering::Relaxed) {
            self.next.store(end, Ordering::Relaxed);
            return start;
        }
        let wanted = CHUNK.max(layout.size().saturating_add(align));
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: asks for fresh pages anywhere; nothing that is there is touched.
        let chunk = unsafe { libc::mmap(std::ptr::null_mut(), wanted, protection, flags, -1, 0) };
        if chunk == libc::MAP_FAILED {
            return 0;
        }
        let start = (chunk as usize).next_multiple_of(align);
        self.next.store(start + layout.size(), Ordering::Relaxed);
        self.end.store(chunk as usize + wanted, Ordering::Relaxed);
        start
    }
}

impl Default for Arena {
    fn default() -> Arena {
        Arena::new()
    }
}

// SAFETY: every piece lies in pages that the kernel gave us and that are never given back, is aligned as asked for, and is
// handed out to nobody else while it is in use: only the piece that was taken last moves the front back.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.locked(|| self.take(layout)) as *mut u8
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        self.locked(|| {
            if piece as usize + layout.size() == self.next.load(Ordering::Relaxed) {
                self.next.store(piece as usize, Ordering::Relaxed);
            }
        });
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let in_place = self.locked(|| {
            let is_last = piece as usize + layout.size() == self.next.load(Ordering::Relaxed);
            let fits = (piece as usize).checked_add(size).is_some_and(|end| end <= self.end.load(Ordering::Relaxed));
            if is_last && fits {
                self.next.store(piece as usize + size, Ordering::Relaxed);
            }
            (is_last && fits) || size <= layout.size()
        });
        if in_place {
            return piece;
        }
        let new = self.locked(|| self.take(Layout::from_size_align(size, layout.align()).expect("it was one before")));
        if new != 0 {
            // SAFETY: both pieces are at least as long as the old one, and do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(piece, new as *mut u8, layout.size()) };
        }
        new as *mut u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_and_apart() {
        let arena = Arena::new();
        let mut taken: Vec<(usize, usize)> = Vec::new();
        for (size, align) in [(1, 1), (8, 8), (3, 1), (64, 64), (CHUNK * 2, 4096), (5, 2), (0, 1)] {
            // SAFETY: the layout is a valid one.
            let piece = unsafe { arena.alloc(Layout::from_size_align(size, align).unwrap()) } as usize;
            assert!(piece != 0 && piece.is_multiple_of(align));
            assert!(taken.iter().all(|(start, length)| piece + size <= *start || start + length <= piece));
            taken.push((piece, size));
        }
    }

    #[test]
    fn what_was_taken_last_comes_back_and_grows_in_place() {
        let arena = Arena::new();
        let layout = Layout::from_size_align(100, 8).unwrap();
        // SAFETY: every piece is used with the layout that it was asked for with.
        unsafe {
            let first = arena.alloc(layout);
            arena.dealloc(first, layout);
            assert_eq!(arena.alloc(layout), first);
            assert_eq!(arena.realloc(first, layout, 200), first);
            let second = arena.alloc(layout);
            let grown = Layout::from_size_align(200, 8).unwrap();
            first.write(7);
            let moved = arena.realloc(first, grown, 400);
            assert!(moved != first && moved != second && moved.read() == 7);
        }
    }
}
