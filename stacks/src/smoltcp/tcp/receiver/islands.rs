//! What arrived beyond a hole, and what the peer is told of it (RFC 2018, RFC 2883).

/// Ranges of positions: the first, and the one after the last.
pub(super) type Range = (u64, u64);

/// How many there may be: a peer that makes more of them has what it sent dropped.
const MOST: usize = 1024;

/// Ranges that do not touch; the one that grew last comes first.
#[derive(Debug, Default)]
pub(super) struct Islands {
    list: Vec<Range>,
    /// What arrived twice and was not reported.
    twice: Option<Range>,
}

/// What became of a segment beyond a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Landed {
    /// It is apart from all others.
    Apart,
    /// It made one grow.
    Joined,
    /// It had arrived before, wholly or in part.
    Twice,
    /// There are too many already.
    Refused,
}

impl Islands {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes in all of them.
    pub(super) fn bytes(&self) -> u64 {
        self.list.iter().map(|(start, end)| end - start).sum()
    }

    /// Adds what arrived.
    pub(super) fn land(&mut self, (start, end): Range) -> Landed {
        // Mostly the last one grows.
        if let [first] = self.list.as_mut_slice()
            && first.1 == start
        {
            first.1 = end;
            return Landed::Joined;
        }
        let (mut whole, mut landed) = ((start, end), Landed::Apart);
        let mut twice = None;
        self.list.retain(|&(first, last)| {
            if last < start || end < first {
                return true;
            }
            let both = (start.max(first), end.min(last));
            if both.0 < both.1 {
                (landed, twice) = (Landed::Twice, Some(both));
            } else if landed == Landed::Apart {
                landed = Landed::Joined;
            }
            whole = (whole.0.min(first), whole.1.max(last));
            false
        });
        if landed == Landed::Apart && self.list.len() >= MOST {
            return Landed::Refused;
        }
        self.list.insert(0, whole);
        if let Some(twice) = twice {
            self.note_twice(twice);
        }
        landed
    }

    /// What is in order now that all before `next` is: up to where.
    pub(super) fn reach(&mut self, mut next: u64) -> u64 {
        let begun = next;
        let mut twice = None;
        while let Some(index) = self.list.iter().position(|(start, _)| *start <= next) {
            let (start, end) = self.list.remove(index);
            if start < begun {
                twice = Some((start, end.min(begun)));
            }
            next = next.max(end);
        }
        if let Some(twice) = twice {
            self.note_twice(twice);
        }
        next
    }

    /// Notes that a range arrived twice.
    pub(super) fn note_twice(&mut self, range: Range) {
        self.twice = Some(match self.twice {
            Some((start, end)) if range.0 <= end && start <= range.1 => {
                (start.min(range.0), end.max(range.1))
            }
            _ => range,
        });
    }

    /// Whether there is something of that to report.
    pub(super) fn has_twice(&self) -> bool {
        self.twice.is_some()
    }

    /// What to report, at most `most` ranges: what came twice, once; and what grew last.
    pub(super) fn report(&mut self, most: usize) -> impl Iterator<Item = Range> {
        self.twice.take().into_iter().chain(self.list.iter().copied()).take(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(islands: &mut Islands) -> Vec<Range> {
        islands.report(4).collect()
    }

    #[test]
    fn the_newest_comes_first_and_neighbours_join() {
        // The cases of RFC 2018, section 4, with segments of 500 bytes from 5000 on.
        let mut islands = Islands::default();
        for start in (5500..9000).step_by(500) {
            let expected = if start == 5500 { Landed::Apart } else { Landed::Joined };
            assert_eq!(islands.land((start, start + 500)), expected);
        }
        assert_eq!(report(&mut islands), [(5500, 9000)]);
        let mut islands = Islands::default();
        for start in [5500, 6500, 7500, 8500] {
            assert_eq!(islands.land((start, start + 500)), Landed::Apart);
        }
        assert_eq!(report(&mut islands), [(8500, 9000), (7500, 8000), (6500, 7000), (5500, 6000)]);
        assert_eq!(islands.land((7000, 7500)), Landed::Joined);
        assert_eq!(report(&mut islands), [(6500, 8000), (8500, 9000), (5500, 6000)]);
        assert_eq!((islands.reach(5500), islands.reach(6500)), (6000, 8000));
        assert_eq!((islands.bytes(), islands.reach(9000)), (500, 9000));
        assert!(islands.is_empty());
    }

    #[test]
    fn what_came_twice_is_reported_once_and_first() {
        // The cases of RFC 2883, sections 4.1 to 4.3.
        let mut islands = Islands::default();
        islands.note_twice((3000, 3500));
        islands.land((4500, 5500));
        assert_eq!(report(&mut islands), [(3000, 3500), (4500, 5500)]);
        assert_eq!(report(&mut islands), [(4500, 5500)]);
        assert_eq!(islands.land((5000, 5500)), Landed::Twice);
        assert_eq!(report(&mut islands), [(5000, 5500), (4500, 5500)]);
        assert_eq!(islands.land((4000, 5000)), Landed::Twice);
        assert_eq!(report(&mut islands), [(4500, 5000), (4000, 5500)]);
        // A hole is filled by more than was missing.
        assert_eq!(islands.reach(4200), 5500);
        assert_eq!(report(&mut islands), [(4000, 4200)]);
    }

    #[test]
    fn there_are_only_so_many() {
        let mut islands = Islands::default();
        for index in 0..MOST as u64 {
            assert_eq!(islands.land((10 * index + 5, 10 * index + 6)), Landed::Apart);
        }
        assert_eq!(islands.land((1, 2)), Landed::Refused);
        assert_eq!(islands.land((4, 5)), Landed::Joined);
        assert_eq!(islands.list.len(), MOST);
    }
}
