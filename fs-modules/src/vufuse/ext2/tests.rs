//! What is done to files in an image, in any order, is what is in it when it is mounted again.

use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;
use umvu_abi::{
    Errno,
    files::{Backing, Caller, Changes, FileSystem, Handle, Node},
};

use super::{
    Ext,
    cache::Mode,
    hostile::tests::{images, judge},
    library::library,
    mount::open,
};
use crate::vufuse::walk::Memory;

#[derive(Debug, Clone)]
enum Step {
    Write(u64, usize, u8),
    Resize(u64),
    /// With a mode of fallocate(2).
    Allocate(i32, u64, u64),
    /// Another file comes and goes, so that blocks change hands.
    Neighbour(usize),
    Commit,
    Again,
}

const HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
/// The largest size that is tried.
const MOST: u64 = 200_000;

fn step() -> impl Strategy<Value = Step> {
    let modes = prop::sample::select(vec![
        0,
        libc::FALLOC_FL_KEEP_SIZE,
        HOLE,
        libc::FALLOC_FL_ZERO_RANGE,
        libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
    ]);
    prop_oneof![
        6 => (0..MOST, 1..30_000_usize, any::<u8>()).prop_map(|(at, length, byte)| Step::Write(at, length, byte)),
        2 => (0..MOST).prop_map(Step::Resize),
        3 => (modes, 0..MOST, 1..50_000_u64).prop_map(|(mode, at, length)| Step::Allocate(mode, at, length)),
        2 => (1..100_000_usize).prop_map(Step::Neighbour),
        1 => Just(Step::Commit),
        1 => Just(Step::Again),
    ]
}

struct Session {
    memory: Arc<Memory>,
    ext: Ext,
    node: Node,
}

impl Session {
    fn begin(bytes: Vec<u8>) -> Self {
        let memory = Arc::new(Memory(Mutex::new(bytes)));
        let image: Arc<dyn Backing> = Arc::<Memory>::clone(&memory);
        let ext = open(library().expect("libext2fs2"), image, Mode::Open).expect("it is sound");
        let root = Caller::root();
        let found = ext.lookup(&root, Node::ROOT, b"file");
        let found =
            found.or_else(|_| ext.mknod(&root, Node::ROOT, b"file", libc::S_IFREG | 0o644, 0));
        let node = found.expect("room").node;
        Self { memory, ext, node }
    }

    fn again(self) -> Self {
        self.ext.stop();
        let bytes = std::mem::take(&mut *self.memory.0.lock());
        judge(&bytes);
        Self::begin(bytes)
    }

    fn content(&self) -> Vec<u8> {
        let size = self.ext.getattr(&Caller::root(), self.node, None).expect("it is there").size;
        let mut content = vec![0xee; usize::try_from(size).expect("small")];
        let got = self.ext.read(self.node, Handle(0), 0, &mut content).expect("sound");
        assert_eq!(got, content.len());
        content
    }

    /// Does it here and to the model.
    fn act(&self, step: &Step, model: &mut Vec<u8>) {
        let (root, handle) = (Caller::root(), Handle(0));
        let place = |at: u64| usize::try_from(at).expect("small");
        match *step {
            Step::Write(at, length, byte) => {
                let data: Vec<u8> = (0..length)
                    .map(|it| byte.wrapping_add(u8::try_from(it % 251).unwrap_or(0)))
                    .collect();
                match self.ext.write(self.node, handle, at, &data) {
                    Err(errno) => assert_eq!(errno, Errno::ENOSPC),
                    Ok(wrote) => {
                        let end = place(at) + wrote;
                        model.resize(model.len().max(end), 0);
                        model[place(at)..end].copy_from_slice(&data[..wrote]);
                    }
                }
            }
            Step::Resize(size) => {
                let size_to = Changes { size: Some(size), ..Changes::default() };
                self.ext.setattr(&root, self.node, None, &size_to).expect("it can");
                model.resize(place(size), 0);
            }
            Step::Allocate(mode, at, length) => {
                match self.ext.fallocate(self.node, handle, mode, at, length) {
                    Err(errno) => {
                        assert!([Errno::ENOSPC, Errno::EOPNOTSUPP].contains(&errno), "{errno}")
                    }
                    Ok(()) => {
                        let end = place(at + length);
                        if mode & libc::FALLOC_FL_KEEP_SIZE == 0 {
                            model.resize(model.len().max(end), 0);
                        }
                        if mode & (HOLE | libc::FALLOC_FL_ZERO_RANGE) & !libc::FALLOC_FL_KEEP_SIZE
                            != 0
                        {
                            let (from, to) = (place(at).min(model.len()), end.min(model.len()));
                            model[from..to].fill(0);
                        }
                    }
                }
            }
            Step::Neighbour(length) => {
                let made =
                    self.ext.mknod(&root, Node::ROOT, b"other", libc::S_IFREG, 0).expect("room");
                let _ = self.ext.write(made.node, handle, 0, &vec![0xdd; length]);
                self.ext.unlink(&root, Node::ROOT, b"other").expect("it is there");
                self.ext.forget(made.node, 1);
            }
            Step::Commit => self.ext.commit().expect("it can"),
            Step::Again => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_file_holds_what_was_written(
        which in 0..3_usize,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut session = Session::begin(images()[which].clone());
        let mut model = Vec::new();
        for step in steps {
            if matches!(step, Step::Again) {
                session = session.again();
            }
            let is_full = matches!(step, Step::Allocate(..));
            session.act(&step, &mut model);
            let found = session.content();
            // Zeros of a range may be there though there was no room for the blocks.
            if is_full && found != model && found.len() == model.len() {
                model = found;
                continue;
            }
            prop_assert!(found == model, "{:?}: {:?}", step, found.iter().zip(&model).position(|(a, b)| a != b));
        }
        prop_assert!(session.again().content() == model);
    }
}
