//! The certificates of a silo, and those of the plane: own authorities and the leaf certificates they sign.
//!
//! Each silo has an authority of its own, which may sign for names of that silo only (name constraints), and leafs that
//! live for days; the plane's own namespace has the same. [`establish`] and [`establish_plane`] are functions of what is
//! stored and the time: they are called when certificates are due, missing or damaged, and whatever they return replaces
//! what is there.
//!
//! An authority is replaced without a moment at which two pods distrust each other, whichever of them has already seen
//! the new files (see [`rollover`]).

mod authority;
mod leaf;
mod leafs;
pub mod rollover;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;

pub use authority::Authority;
use authority::Subject;
pub use leaf::Leaf;
use leaf::Purpose;
use leafs::Leafs;
pub use leafs::{PlaneLeafs, SiloLeafs};

use crate::api::plane::PLANE_UID;

/// How long certificates live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Life of a leaf certificate.
    pub leaf: Duration,
    /// Life of an authority; at least four times that of a leaf, so that an authority outlives what it signs.
    pub ca: Duration,
}

impl Default for Lifetimes {
    /// Leafs of 7 days, authorities of 90 days: a rollover that happens every two months is one that works.
    fn default() -> Self {
        Self {
            leaf: Duration::from_hours(7 * 24),
            ca: Duration::from_hours(90 * 24),
        }
    }
}

/// Why certificates cannot be issued.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The configured lifetimes do not fit each other.
    #[error(
        "a certificate authority that lives {ca:?} cannot be replaced in time for leafs that live {leaf:?}: \
         it must live at least four times as long, and a leaf at least 10 seconds"
    )]
    Lifetimes {
        /// Life of a leaf.
        leaf: Duration,
        /// Life of an authority.
        ca: Duration,
    },
    /// A point in time does not fit into a certificate.
    #[error("{0} cannot be written into a certificate: check the clock")]
    Time(Timestamp),
    /// A stored authority cannot be read.
    #[error("a stored certificate authority cannot be read: {0}")]
    Unreadable(&'static str),
    /// The authority has no key any more: it was succeeded, and only its certificate is kept.
    #[error("certificate authority {fingerprint} was succeeded and signs no more")]
    Retired {
        /// Fingerprint of the authority.
        fingerprint: String,
    },
    /// Making a key or signing failed.
    #[error("a key or certificate cannot be made")]
    Crypto(#[from] rcgen::Error),
}

/// Certificates of one subject: its authorities, and the leafs that one of them signed.
#[derive(Debug)]
pub struct Issued<L = SiloLeafs> {
    /// The authorities to store, oldest first. Those that were succeeded have lost their keys.
    pub authorities: Vec<Authority>,
    /// Certificates of all authorities: what everybody concerned trusts.
    pub bundle_pem: String,
    /// The leafs.
    pub leafs: L,
    /// When to issue again: the first of two thirds of a leaf's life and the steps of a rollover.
    pub renew_at: Timestamp,
    signer: usize,
}

impl<L> Issued<L> {
    /// The authority that signed the leafs.
    #[must_use]
    pub fn signer(&self) -> &Authority {
        &self.authorities[self.signer]
    }
}

/// Issues every certificate of a silo.
///
/// `authorities` are the stored ones; those of another silo, expired ones and damaged ones do not count, and where none
/// is left that can sign, a new one is made. Keys are made inside; otherwise the outcome depends on the arguments alone.
pub fn establish(
    silo: &str,
    namespace: &str,
    uid: &str,
    authorities: Vec<Authority>,
    now: Timestamp,
    lifetimes: &Lifetimes,
) -> Result<Issued, PkiError> {
    let subject = Subject {
        name: silo,
        namespace,
        uid,
        services: SiloLeafs::SERVICES,
    };
    issue_all(&subject, authorities, now, lifetimes)
}

/// Issues every certificate of the plane in `namespace`, in the same way as [`establish`] does for a silo.
pub fn establish_plane(
    namespace: &str,
    authorities: Vec<Authority>,
    now: Timestamp,
    lifetimes: &Lifetimes,
) -> Result<Issued<PlaneLeafs>, PkiError> {
    let subject = Subject {
        name: "granary",
        namespace,
        uid: PLANE_UID,
        services: PlaneLeafs::SERVICES,
    };
    issue_all(&subject, authorities, now, lifetimes)
}

fn issue_all<L: Leafs>(
    subject: &Subject<'_>,
    authorities: Vec<Authority>,
    now: Timestamp,
    lifetimes: &Lifetimes,
) -> Result<Issued<L>, PkiError> {
    let Lifetimes { leaf, ca } = *lifetimes;
    if leaf < Duration::from_secs(10) || ca < leaf.saturating_mul(4) {
        return Err(PkiError::Lifetimes { leaf, ca });
    }
    let mut authorities: Vec<Authority> = authorities
        .into_iter()
        .filter(|authority| authority.not_after > now && authority.is_of(subject))
        .collect();
    authorities.sort_by_key(|authority| authority.not_before);
    if rollover::needs_successor(&authorities, now) {
        authorities.push(Authority::new(subject, now, ca)?);
    }
    let signer = rollover::signer(&authorities, now, lifetimes)
        .ok_or(PkiError::Unreadable("none has a key"))?;
    for succeeded in &mut authorities[..signer] {
        succeeded.retire();
    }
    let leafs = L::issue(&|purpose| Leaf::new(&authorities[signer], purpose, now, leaf))?;
    let renew_at = leafs
        .all()
        .into_iter()
        .map(Leaf::renew_at)
        .chain(rollover::steps(&authorities, lifetimes).filter(|step| *step > now))
        .min()
        .unwrap_or(now);
    Ok(Issued {
        bundle_pem: authorities
            .iter()
            .map(|authority| authority.certificate_pem.as_str())
            .collect(),
        authorities,
        leafs,
        renew_at,
        signer,
    })
}

/// The operator's certificate for a database's agent: CN `operator`, for an hour, kept in memory only.
///
/// `authority` is the one that signs: [`Issued::signer`], or of stored ones [`rollover::signer`].
pub fn operator_client(authority: &Authority, now: Timestamp) -> Result<Leaf, PkiError> {
    Leaf::new(
        authority,
        Purpose::Client("operator"),
        now,
        Duration::from_hours(1),
    )
}

/// Two thirds of a life, after which there is still time to retry.
fn two_thirds(not_before: Timestamp, not_after: Timestamp) -> Timestamp {
    let life = not_after.as_second() - not_before.as_second();
    seconds_after(not_before, life / 3 * 2 + life % 3 * 2 / 3)
}

/// Certificates begin a little before they are made, for clocks that are late: 5 minutes, or a tenth of a short life.
fn backdate(life_seconds: i64) -> i64 {
    (life_seconds / 10).min(5 * 60)
}

/// A whole number of seconds later; certificates know no parts of a second.
fn seconds_after(time: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_second(time.as_second().saturating_add(seconds)).unwrap_or(Timestamp::MAX)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
