//! When an authority comes, signs and goes.
//!
//! ```text
//! old  │ signs ────────────────────────────────┤ trusted ──────────────────┤ expires
//! new                                    │ trusted ─┤ signs ──────────────────────────…
//!                              two thirds of old's life, then an overlap
//! ```
//!
//! Files reach pods at different times, so of any two pods one may be a step behind. A new authority is therefore in
//! every bundle for an overlap that is longer than files take, before anything that it signed can be shown to anyone.
//! The old one loses its key when it is succeeded, and stays trusted until it expires, and with it all it ever signed.
//! Everything here follows from the validity of the certificates, so that nothing else has to be stored.

#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;

use super::{Authority, Lifetimes, backdate, seconds, seconds_after, two_thirds};

/// How long a new authority is trusted before it signs: an hour (files take about a minute), or a tenth of a short
/// leaf's life.
#[must_use]
pub fn overlap(lifetimes: &Lifetimes) -> Duration {
    (lifetimes.leaf / 10).min(Duration::from_hours(1))
}

/// Position of the authority that signs now, among authorities in order of age; `None` if none has a key.
///
/// Before any has had its overlap, the oldest with a key signs: there is nothing better.
#[must_use]
pub fn signer(authorities: &[Authority], now: Timestamp, lifetimes: &Lifetimes) -> Option<usize> {
    let can_sign = |index: &usize| authorities[*index].key_pem().is_some();
    (0..authorities.len())
        .rev()
        .find(|index| can_sign(index) && signs_from(authorities, *index, lifetimes) <= now)
        .or_else(|| (0..authorities.len()).find(can_sign))
}

/// Whether a new authority has to be made: the youngest has lived two thirds of its life or cannot sign.
pub(super) fn needs_successor(authorities: &[Authority], now: Timestamp) -> bool {
    authorities
        .last()
        .is_none_or(|youngest| youngest.key_pem().is_none() || now >= succeed_at(youngest))
}

/// Every point in time at which something changes: a successor is made, begins to sign, or an authority expires.
pub(super) fn steps(
    authorities: &[Authority],
    lifetimes: &Lifetimes,
) -> impl Iterator<Item = Timestamp> {
    let signing = (0..authorities.len()).map(|index| signs_from(authorities, index, lifetimes));
    signing.chain(
        authorities
            .iter()
            .flat_map(|authority| [succeed_at(authority), authority.not_after]),
    )
}

fn succeed_at(authority: &Authority) -> Timestamp {
    two_thirds(authority.not_before, authority.not_after)
}

/// When an authority begins to sign: at once if it is the first, otherwise after the overlap, or half-way to its
/// predecessor's end if that is sooner (the operator was away for most of the last third).
fn signs_from(authorities: &[Authority], index: usize, lifetimes: &Lifetimes) -> Timestamp {
    let made = made_at(&authorities[index]);
    let predecessor = index.checked_sub(1).map(|before| &authorities[before]);
    predecessor.map_or(made, |predecessor| {
        let half_way = (predecessor.not_after.as_second() - made.as_second()).max(0) / 2;
        seconds_after(made, seconds(overlap(lifetimes)).min(half_way))
    })
}

/// When the certificate was made, which is later than its validity begins.
fn made_at(authority: &Authority) -> Timestamp {
    let life = authority.not_after.as_second() - authority.not_before.as_second();
    seconds_after(authority.not_before, backdate(life))
}
