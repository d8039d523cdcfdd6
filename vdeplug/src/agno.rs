//! `agno://`: an encrypted network inside any other, as libvdeplug's plugin has it.
//!
//! `agno://[KEYFILE][ethtype=TYPE]{VNL}` replaces the type and the payload of each frame; the
//! addresses stay readable. Behind the Ethernet header come a block of 16 bytes, encrypted by
//! AES-128 as it is, and the payload, encrypted by AES-128 in CBC mode with the plain text of that
//! block as initialization vector and padded by zeros. The block holds the type (2 bytes), the
//! length of the padding, a zero, the letters `agno`, the time in seconds (4) and a random salt (4).
//! A frame whose time differs from ours by more than a second or two is a replay and dropped, so
//! the clocks of all members must agree. Nothing authenticates the payload.
//!
//! The key is 32 hexadecimal digits in a file, `~/.vde_agno_key` unless the locator names another.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use aes::{
    Aes128,
    cipher::{
        Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt,
        InnerIvInit, KeyInit,
    },
};
use nix::unistd::{User, geteuid};

use crate::{
    error::OpenError,
    filter::{Codec, Filter, Verdict},
    transport::Transport,
    vnl::{Resolved, Vnl, VnlError},
};

const KEY: usize = 16;
const BLOCK: usize = 16;
/// The Ethernet header, and the place of the type in it.
const HEADER: usize = 14;
const TYPE: usize = 12;
const MARK: [u8; 4] = *b"agno";
const ETHERTYPE: u16 = 0xa6de;
/// Smaller ones are lengths.
const SMALLEST_TYPE: u16 = 0x600;
const DEFAULT_KEY_FILE: &str = ".vde_agno_key";

/// Opens `agno://[KEYFILE][ethtype=TYPE]{VNL}`.
pub(crate) fn open(
    vnl: &Vnl,
    inner: impl FnOnce(&Vnl) -> Result<Arc<dyn Transport>, OpenError>,
) -> Result<Arc<dyn Transport>, OpenError> {
    let parameters = vnl.parameters.resolve("agno", &["ethtype"])?;
    let outer = OuterType::of(&parameters)?;
    let place = vnl.to_string();
    let nested = vnl.nested.as_deref().ok_or_else(|| OpenError::Refused {
        place: place.clone(),
        problem: "needs a network in braces, for example agno://{vxvde://}".to_owned(),
        errno: libc::EINVAL,
    })?;
    let key = read_key(&place, &vnl.path)?;
    Ok(Arc::new(Filter::new(inner(nested)?, Seal { cipher: Cipher::new(&key), outer })))
}

/// Reads a key: hexadecimal digits, whatever is between them.
fn read_key(place: &str, path: &str) -> Result<[u8; KEY], OpenError> {
    let path = key_file(path).ok_or_else(|| OpenError::Refused {
        place: place.to_owned(),
        problem: format!("{path}: the key file must start with / or ~"),
        errno: libc::EINVAL,
    })?;
    let text = fs::read(&path).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => OpenError::Absent {
            place: place.to_owned(),
            problem: format!("no key in {}", path.display()),
            remedy: format!(
                "umask 077; head -c 16 /dev/urandom | od -An -tx1 >{}, and copy it to the others",
                path.display()
            ),
        },
        _ => OpenError::system(place, &format!("reading {}", path.display()))(error),
    })?;
    key_of(&text).ok_or_else(|| OpenError::Refused {
        place: place.to_owned(),
        problem: format!("{} holds no key (32 hexadecimal digits)", path.display()),
        errno: libc::EINVAL,
    })
}

fn key_file(path: &str) -> Option<PathBuf> {
    let home = || {
        let user = User::from_uid(geteuid()).ok().flatten().map(|user| user.dir);
        user.or_else(|| env::var_os("HOME").map(PathBuf::from)).unwrap_or_default()
    };
    match path.strip_prefix('~') {
        Some(rest) => Some(home().join(rest.trim_start_matches('/'))),
        None if path.is_empty() => Some(home().join(DEFAULT_KEY_FILE)),
        None => Path::new(path).is_absolute().then(|| PathBuf::from(path)),
    }
}

/// Returns the key in a text; a short one is filled up with zeros, as the reference does.
fn key_of(text: &[u8]) -> Option<[u8; KEY]> {
    let digits = text.iter().filter_map(|byte| char::from(*byte).to_digit(16));
    let digits: Vec<u8> = digits.filter_map(|d| u8::try_from(d).ok()).take(2 * KEY).collect();
    let mut key = [0; KEY];
    for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
        *byte = pair[0] << 4 | pair.get(1).copied().unwrap_or(0);
    }
    (digits.len() >= 2).then_some(key)
}

/// The type that others see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OuterType {
    Fixed(u16),
    Copy,
    Random,
}

impl OuterType {
    fn of(parameters: &Resolved<'_>) -> Result<Self, VnlError> {
        let Some(text) = parameters.get("ethtype").filter(|text| !text.is_empty()) else {
            return Ok(Self::Fixed(ETHERTYPE));
        };
        let number = match text.strip_prefix("0x") {
            Some(digits) => u16::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        match (text.to_ascii_lowercase().as_str(), number) {
            ("copy", _) => Ok(Self::Copy),
            ("rand", _) => Ok(Self::Random),
            ("ipv4", _) => Ok(Self::Fixed(0x0800)),
            ("ipv6", _) => Ok(Self::Fixed(0x86dd)),
            (_, Some(0)) => Ok(Self::Fixed(ETHERTYPE)),
            (_, Some(number)) if (SMALLEST_TYPE..u16::MAX).contains(&number) => {
                Ok(Self::Fixed(number))
            }
            _ => {
                let expected = "copy, ipv4, ipv6, rand or a number from 0x600 to 0xfffe";
                Err(parameters.bad_value("ethtype", text, expected))
            }
        }
    }

    /// The type for a frame with this one; `chance` is random.
    fn choose(self, own: [u8; 2], chance: u16) -> [u8; 2] {
        match self {
            Self::Fixed(number) => number.to_be_bytes(),
            Self::Copy => own,
            Self::Random => (SMALLEST_TYPE + chance % (u16::MAX - SMALLEST_TYPE)).to_be_bytes(),
        }
    }
}

/// Both directions of a network with one key.
#[derive(Debug)]
struct Seal {
    cipher: Cipher,
    outer: OuterType,
}

impl Codec for Seal {
    fn outward(&self, frame: Vec<u8>) -> Verdict {
        let mut chance = [0; 6];
        match getrandom::fill(&mut chance) {
            Ok(()) => Verdict::Pass(self.cipher.seal(&frame, self.outer, now(), chance)),
            Err(_) => Verdict::Drop,
        }
    }

    fn inward(&self, frame: Vec<u8>) -> Verdict {
        self.cipher.unseal(&frame, now()).map_or(Verdict::Ignore, Verdict::Pass)
    }
}

/// The clock of all members, in seconds; it wraps.
#[expect(clippy::cast_possible_truncation, reason = "four bytes of it are sent")]
fn now() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as u32)
}

/// A key, ready for use.
#[derive(Clone)]
pub(crate) struct Cipher {
    aes: Aes128,
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher(secret)")
    }
}

impl Cipher {
    pub(crate) fn new(key: &[u8; KEY]) -> Self {
        Self { aes: Aes128::new(&Array::from(*key)) }
    }

    /// Encrypts a frame, which has a header.
    pub(crate) fn seal(
        &self,
        frame: &[u8],
        outer: OuterType,
        now: u32,
        chance: [u8; 6],
    ) -> Vec<u8> {
        let [a, b, salt @ ..] = chance;
        let own = [frame[TYPE], frame[TYPE + 1]];
        let length = frame.len() - HEADER;
        let padding = length.next_multiple_of(BLOCK) - length;
        let mut block = [0; BLOCK];
        block[..2].copy_from_slice(&own);
        block[2] = u8::try_from(padding).unwrap_or(0);
        block[4..8].copy_from_slice(&MARK);
        block[8..12].copy_from_slice(&now.to_be_bytes());
        block[12..].copy_from_slice(&salt);
        let mut sealed = frame[..TYPE].to_vec();
        sealed.extend(outer.choose(own, u16::from_be_bytes([a, b])));
        sealed.extend(block);
        sealed.extend(&frame[HEADER..]);
        sealed.resize(sealed.len() + padding, 0);
        let (blocks, _) = sealed[HEADER..].as_chunks_mut::<BLOCK>();
        if let Some((first, payload)) = blocks.split_first_mut() {
            self.aes.encrypt_block(first.into());
            let mut chain = cbc::Encryptor::inner_iv_init(self.aes.clone(), &block.into());
            chain.encrypt_blocks(Array::cast_slice_from_core_mut(payload));
        }
        sealed
    }

    /// Decrypts a frame; None if it is of another network, or old.
    pub(crate) fn unseal(&self, sealed: &[u8], now: u32) -> Option<Vec<u8>> {
        let (first, payload) = sealed.get(HEADER..)?.split_first_chunk::<BLOCK>()?;
        let mut block = Array::from(*first);
        self.aes.decrypt_block(&mut block);
        let time = u32::from_be_bytes(*block[8..].first_chunk()?);
        let fresh = now.wrapping_sub(time).wrapping_add(1) <= 3;
        let (payload, _) = payload.as_chunks::<BLOCK>();
        let length = payload.as_flattened().len().checked_sub(usize::from(block[2] & 0x0f))?;
        if block[4..8] != MARK || !fresh {
            return None;
        }
        let mut frame = sealed[..TYPE].to_vec();
        frame.extend(&block[..2]);
        frame.extend(payload.as_flattened());
        let mut chain = cbc::Decryptor::inner_iv_init(self.aes.clone(), &block);
        let (blocks, _) = frame[HEADER..].as_chunks_mut::<BLOCK>();
        chain.decrypt_blocks(Array::cast_slice_from_core_mut(blocks));
        frame.truncate(HEADER + length);
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const OUTER: OuterType = OuterType::Fixed(ETHERTYPE);

    fn cipher() -> Cipher {
        Cipher::new(&[7; KEY])
    }

    /// Checked with `openssl enc -aes-128-ecb` and `-aes-128-cbc`, without padding of its own.
    #[test]
    fn the_bytes_are_those_of_aes() {
        let key = key_of(b"00010203 04050607 08090a0b 0c0d0e0f").expect("a key");
        let frame = [&[2; 12][..], &[8, 0], b"attack at dawn"].concat();
        let sealed = Cipher::new(&key).seal(&frame, OUTER, 0x0102_0304, [0, 0, 9, 8, 7, 6]);
        let text: String = sealed[12..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "a6de7ce4f0dbc619227950b36f5c0d71171af1cc52d5f25b647faeda0af74488bb54");
    }

    #[test]
    fn frames_of_others_and_old_ones_do_not_pass() {
        let sealed = cipher().seal(&[1; 60], OUTER, 1000, [0; 6]);
        for now in [999, 1000, 1001, 1002] {
            assert_eq!(cipher().unseal(&sealed, now), Some(vec![1; 60]));
        }
        assert_eq!(cipher().unseal(&sealed, 998), None);
        assert_eq!(cipher().unseal(&sealed, 1003), None);
        assert_eq!(Cipher::new(&[8; KEY]).unseal(&sealed, 1000), None);
        assert_eq!(cipher().unseal(&[1; 60], 1000), None);
    }

    #[test]
    fn others_see_the_type_asked_for() {
        let outer = |text: &str| {
            let vnl: Vnl = text.parse().expect("a locator");
            let parameters = vnl.parameters.resolve("agno", &["ethtype"]).expect("known");
            OuterType::of(&parameters).map_err(|error| error.to_string())
        };
        assert_eq!(outer("agno://{null://}"), Ok(OuterType::Fixed(0xa6de)));
        assert_eq!(outer("agno://[ethtype=copy]{null://}"), Ok(OuterType::Copy));
        assert_eq!(outer("agno://[eth=IPV6]{null://}"), Ok(OuterType::Fixed(0x86dd)));
        assert_eq!(outer("agno://[ethtype=0x88b5]{null://}"), Ok(OuterType::Fixed(0x88b5)));
        assert!(outer("agno://[ethtype=5]{null://}").is_err_and(|e| e.contains("from 0x600")));
        assert_eq!(OuterType::Copy.choose([8, 6], 0), [8, 6]);
        let random = |chance| u16::from_be_bytes(OuterType::Random.choose([8, 6], chance));
        assert!((0..=u16::MAX).all(|chance| (0x600..0xffff).contains(&random(chance))));
    }

    #[test]
    fn keys_are_hexadecimal_digits_among_anything() {
        let expected = key_of(&[b'1'; 32]);
        assert_eq!(expected, Some([0x11; 16]));
        assert_eq!(
            key_of(
                "11:11 11 11
-zz-111111111111111111111111 77"
                    .as_bytes()
            ),
            expected
        );
        assert_eq!(key_of(b"aB"), key_of(b"ab000000000000000000000000000000"));
        assert_eq!(key_of(b"z"), None);
        assert_eq!(key_file("/k"), Some("/k".into()));
        assert_eq!(key_file("k"), None);
        assert!(key_file("").is_some_and(|path| path.ends_with(".vde_agno_key")));
        let error = crate::open("agno:///nonexistent/key{null://}", "test").expect_err("no key");
        assert!(error.to_string().contains("(umask 077; head -c 16 /dev/urandom"), "{error}");
        assert_eq!(error.errno(), libc::ENOENT);
    }

    proptest! {
        #[test]
        fn what_is_sealed_can_be_unsealed(frame in vec(any::<u8>(), 14..200), now: u32) {
            let sealed = cipher().seal(&frame, OUTER, now, [3; 6]);
            prop_assert_eq!(sealed.len() % BLOCK, HEADER);
            prop_assert_eq!(cipher().unseal(&sealed, now), Some(frame));
        }

        #[test]
        fn anything_may_arrive(bytes in vec(any::<u8>(), 0..100), now: u32) {
            prop_assert_eq!(cipher().unseal(&bytes, now), None);
        }
    }
}
