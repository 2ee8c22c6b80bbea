use std::collections::VecDeque;

/// The place of a job in its [`JobQueue`]: the count of jobs queued before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobId(u64);

/// Jobs that are ready to run, first in, first out; each can be cancelled in O(1).
///
/// An id is a position counted since the queue was made, so cancelling needs no search, no second
/// table and no allocation: the entry is emptied in place and skipped when its turn comes.
///
/// ```
/// let mut queue = tepal_base::JobQueue::new();
/// let a = queue.push("a");
/// queue.push("b");
/// assert_eq!(queue.cancel(a), Some("a"));
/// assert_eq!(queue.cancel(a), None);
/// let end = queue.end();
/// queue.push("next turn");
/// assert_eq!(queue.pop_before(end), Some("b"));
/// assert_eq!(queue.pop_before(end), None);
/// assert_eq!(queue.len(), 1);
/// ```
#[derive(Debug)]
pub struct JobQueue<J> {
    entries: VecDeque<Option<J>>,
    // The id of entries[0].
    first: u64,
    // Entries that are None. Counted rather than the others, because cancelling is rare.
    cancelled: usize,
}

impl<J> JobQueue<J> {
    /// An empty queue.
    pub const fn new() -> JobQueue<J> {
        JobQueue { entries: VecDeque::new(), first: 0, cancelled: 0 }
    }

    /// Queues a job behind all others.
    #[inline]
    pub fn push(&mut self, job: J) -> JobId {
        let id = self.end();
        self.entries.push_back(Some(job));
        id
    }

    /// Takes the job out of the queue, so that it will not run.
    ///
    /// `None` if it ran or was cancelled before. The caller drops the job: a destructor is user
    /// code and must not run while the queue is borrowed.
    pub fn cancel(&mut self, id: JobId) -> Option<J> {
        let index = usize::try_from(id.0.checked_sub(self.first)?).ok()?;
        let job = self.entries.get_mut(index)?.take()?;
        self.cancelled += 1;
        Some(job)
    }

    /// The next job that was queued before `end`.
    #[inline]
    pub fn pop_before(&mut self, end: JobId) -> Option<J> {
        while self.first < end.0 {
            let entry = self.entries.pop_front()?;
            self.first += 1;
            if entry.is_some() {
                return entry;
            }
            self.cancelled -= 1;
        }
        None
    }

    /// Takes all jobs out, cancelling them; the caller drops them.
    #[must_use = "dropping jobs may run user code: drop them where that is safe"]
    pub fn take_all(&mut self) -> Vec<J> {
        self.first = self.end().0;
        self.cancelled = 0;
        std::mem::take(&mut self.entries).into_iter().flatten().collect()
    }

    /// The id that the next job will get: the end of what the queue holds now.
    #[inline]
    pub fn end(&self) -> JobId {
        JobId(self.first + self.entries.len() as u64)
    }

    /// The jobs that wait, in order.
    pub fn iter(&self) -> impl Iterator<Item = &J> {
        self.entries.iter().flatten()
    }

    /// Whether the job has neither run nor been cancelled.
    pub fn is_queued(&self, id: JobId) -> bool {
        id.0.checked_sub(self.first)
            .and_then(|index| self.entries.get(usize::try_from(index).ok()?))
            .is_some_and(Option::is_some)
    }

    /// How many jobs wait, cancelled ones not counted.
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len() - self.cancelled
    }

    /// Whether no job waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<J> Default for JobQueue<J> {
    fn default() -> Self {
        JobQueue::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancelled_jobs_are_skipped_and_others_keep_their_order() {
        let mut queue = JobQueue::new();
        let ids: Vec<_> = (0..10).map(|n| queue.push(n)).collect();
        for id in ids.iter().step_by(2) {
            assert!(queue.cancel(*id).is_some());
            assert!(!queue.is_queued(*id));
        }
        let end = queue.end();
        let run: Vec<_> = std::iter::from_fn(|| queue.pop_before(end)).collect();
        assert_eq!(run, [1, 3, 5, 7, 9]);
        assert!(ids.iter().all(|id| queue.cancel(*id).is_none()));
    }

    #[test]
    fn an_id_from_before_take_all_cancels_nothing_queued_later() {
        let mut queue = JobQueue::new();
        let old = queue.push(1);
        assert_eq!(queue.take_all(), [1]);
        let new = queue.push(2);
        assert_eq!(queue.cancel(old), None);
        assert!(queue.is_queued(new));
    }
}
