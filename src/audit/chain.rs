//! The chain, computed anew: what was edited, moved, replaced, removed or slipped in. Pure: rows go in, a report comes
//! out.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::{Action, Hash, Link};

/// Most findings that a report lists; the others are counted.
const LISTED: usize = 1000;

/// Most rows that are tried against each other to tell a moved row from an edited one.
const SUSPECTS: usize = 200;

/// An end of the chain: place and hash of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Head {
    /// Place of the row; 0 before the first.
    pub seq: i64,
    /// Hash of the row.
    pub hash: Hash,
}

impl Head {
    /// Where an audit without rows ends.
    pub const EMPTY: Self = Self {
        seq: 0,
        hash: Hash::NONE,
    };
}

impl fmt::Display for Head {
    /// `SEQ:HASH`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// A text that is no head of an audit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no head of an audit: write it as `granary audit verify` prints it, SEQ:HASH")]
pub struct HeadError(String);

impl FromStr for Head {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once(':').and_then(|(seq, hash)| {
            let seq: u32 = seq.parse().ok()?;
            Some(Self {
                seq: seq.into(),
                hash: hash.parse().ok()?,
            })
        });
        parsed.ok_or_else(|| HeadError(text.to_owned()))
    }
}

/// Something that does not fit, and which row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Finding {
    /// A row whose content does not give its hash.
    Edited {
        /// Its place.
        seq: i64,
    },
    /// A row that stands where it was not written.
    Moved {
        /// Where it stands.
        seq: i64,
        /// Where it was written.
        from: i64,
    },
    /// A row that agrees with itself, but is not the one that was chained to, or that was noted as head.
    Replaced {
        /// Its place.
        seq: i64,
    },
    /// Rows that are not there, though later ones are.
    Removed {
        /// The first.
        from: i64,
        /// The last.
        to: i64,
    },
    /// Rows that are not there at the end.
    Truncated {
        /// The first.
        from: i64,
        /// The last that is known to have been there.
        to: i64,
    },
    /// More than one row at a place.
    Duplicated {
        /// The place.
        seq: i64,
    },
    /// A row of a time that was dropped.
    Revived {
        /// Its place.
        seq: i64,
    },
    /// Rows after the noted end: not written by the registry's own function.
    Added {
        /// The first.
        from: i64,
        /// The last.
        to: i64,
    },
    /// The anchor that the chain begins at is not the one that the chain says was left.
    Unanchored {
        /// Place of the anchor.
        seq: i64,
    },
}

impl Finding {
    /// The first row that it is about.
    const fn place(self) -> i64 {
        match self {
            Self::Edited { seq }
            | Self::Moved { seq, .. }
            | Self::Replaced { seq }
            | Self::Duplicated { seq }
            | Self::Revived { seq }
            | Self::Unanchored { seq } => seq,
            Self::Removed { from, .. }
            | Self::Truncated { from, .. }
            | Self::Added { from, .. } => from,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = |from: i64, to: i64| {
            if from == to {
                format!("row {from} was")
            } else {
                format!("rows {from} to {to} were")
            }
        };
        match *self {
            Self::Edited { seq } => write!(
                f,
                "row {seq} was edited: its content does not give its hash"
            ),
            Self::Moved { seq, from } => {
                write!(f, "row {seq} was moved: it was written as row {from}")
            }
            Self::Replaced { seq } => write!(
                f,
                "row {seq} was replaced: it is not the row that the chain went on from"
            ),
            Self::Removed { from, to } => write!(f, "{} deleted", rows(from, to)),
            Self::Truncated { from, to } => write!(f, "{} cut off at the end", rows(from, to)),
            Self::Duplicated { seq } => write!(f, "row {seq} is there more than once"),
            Self::Revived { seq } => write!(
                f,
                "row {seq} was added: it is older than what the last dropped month left"
            ),
            Self::Added { from, to } => {
                write!(
                    f,
                    "{} added: the registry has not written it",
                    rows(from, to)
                )
            }
            Self::Unanchored { seq } => write!(
                f,
                "the anchor at row {seq} is forged: no row of the audit says that it was left"
            ),
        }
    }
}

/// What verifying found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How many rows there are.
    pub rows: u64,
    /// The last row that was dropped after its year, which the first one follows.
    pub anchor: Option<Head>,
    /// The end of the chain, as the registry noted it. To be kept elsewhere and given to a later check.
    pub head: Head,
    /// Whether the remembered head could be compared; none if none was given. It cannot where its row was dropped.
    pub remembered: Option<bool>,
    /// What does not fit, in the order of the rows.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub omitted: usize,
}

impl Report {
    /// Whether everything fits.
    #[must_use]
    pub const fn is_intact(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Goes along the chain.
#[derive(Debug)]
pub(super) struct Checker {
    anchor: Option<Head>,
    /// Whether a row of the chain says that this anchor was left.
    attested: bool,
    head: Head,
    remembered: Option<Head>,
    rows: u64,
    /// Place of the row before.
    last: i64,
    /// Hashes that may stand as the one before the next row: several after a duplicate, none known after an edit.
    tails: Option<Vec<Hash>>,
    suspects: Vec<Link>,
    gaps: Vec<i64>,
    findings: Vec<Finding>,
    omitted: usize,
}

impl Checker {
    /// Begins after the anchor, or at the first row of all.
    pub fn new(anchor: Option<Head>, head: Head, remembered: Option<Head>) -> Self {
        let start = anchor.unwrap_or(Head::EMPTY);
        let mut checker = Self {
            anchor,
            attested: anchor.is_none(),
            head,
            remembered,
            rows: 0,
            last: start.seq,
            tails: Some(vec![start.hash]),
            suspects: Vec::new(),
            gaps: Vec::new(),
            findings: Vec::new(),
            omitted: 0,
        };
        if remembered.is_some_and(|known| known.seq == start.seq && known.hash != start.hash) {
            checker.find(Finding::Unanchored { seq: start.seq });
        }
        checker
    }

    /// The next row in the order of places.
    pub fn add(&mut self, link: Link) {
        self.rows += 1;
        let seq = link.seq;
        let sound = link.computed() == link.hash;
        if seq <= self.start().seq {
            return self.find(Finding::Revived { seq });
        }
        if seq == self.last {
            self.find(Finding::Duplicated { seq });
            if let Some(tails) = &mut self.tails {
                tails.push(link.hash);
            }
            return;
        }
        if seq > self.last + 1 {
            self.gap(self.last + 1, seq - 1);
        } else if sound
            && let Some(tails) = &self.tails
            && !tails.contains(&link.prev)
        {
            // Nothing before the first row can have been replaced but the first row itself.
            let seq = if self.last == self.start().seq {
                seq
            } else {
                self.last
            };
            self.find(Finding::Replaced { seq });
        }
        if sound {
            let known = [Some(self.head), self.remembered];
            if known
                .into_iter()
                .flatten()
                .any(|known| known.seq == seq && known.hash != link.hash)
            {
                self.find(Finding::Replaced { seq });
            }
            self.attested |= self.anchor.is_some_and(|anchor| attests(&link, anchor));
        }
        self.last = seq;
        self.tails = sound.then(|| vec![link.hash]);
        if !sound {
            self.suspect(link);
        }
    }

    /// There are no more rows.
    pub fn finish(mut self) -> Report {
        self.tell_moved_from_edited();
        let end = self
            .remembered
            .map_or(self.head.seq, |known| known.seq.max(self.head.seq));
        if end > self.last {
            self.find(Finding::Truncated {
                from: self.last + 1,
                to: end,
            });
        }
        if self.last > self.head.seq {
            self.find(Finding::Added {
                from: self.head.seq + 1,
                to: self.last,
            });
        }
        if let Some(anchor) = self.anchor.filter(|_| !self.attested) {
            self.find(Finding::Unanchored { seq: anchor.seq });
        }
        let mut findings = self.findings;
        findings.sort_by_key(|finding| (finding.place(), *finding));
        findings.dedup();
        let omitted = self.omitted + findings.len().saturating_sub(LISTED);
        findings.truncate(LISTED);
        let start = self.anchor.map_or(0, |anchor| anchor.seq);
        Report {
            rows: self.rows,
            anchor: self.anchor,
            head: self.head,
            remembered: self.remembered.map(|known| known.seq >= start),
            findings,
            omitted,
        }
    }

    fn start(&self) -> Head {
        self.anchor.unwrap_or(Head::EMPTY)
    }

    fn find(&mut self, finding: Finding) {
        if self.findings.len() < LISTED {
            self.findings.push(finding);
        } else {
            self.omitted += 1;
        }
    }

    fn gap(&mut self, from: i64, to: i64) {
        self.find(Finding::Removed { from, to });
        let room = SUSPECTS.saturating_sub(self.gaps.len());
        self.gaps.extend((from..=to).take(room));
        self.tails = None;
    }

    fn suspect(&mut self, link: Link) {
        if self.suspects.len() < SUSPECTS {
            self.suspects.push(link);
        } else {
            self.find(Finding::Edited { seq: link.seq });
        }
    }

    fn tell_moved_from_edited(&mut self) {
        let suspects = std::mem::take(&mut self.suspects);
        for link in &suspects {
            let seq = link.seq;
            let finding = match written_as(link, &suspects, &self.gaps) {
                Some(from) => Finding::Moved { seq, from },
                None => Finding::Edited { seq },
            };
            // Past the limit: these were held back and come before others that are listed already.
            self.findings.push(finding);
        }
    }
}

/// Where a row was written that does not fit where it stands: with its hashes, or its content alone.
fn written_as(link: &Link, suspects: &[Link], gaps: &[i64]) -> Option<i64> {
    let whole = |seq: &i64| link.computed_at(*seq, link.prev) == link.hash;
    let others = || suspects.iter().filter(|other| other.seq != link.seq);
    let places = others().map(|other| other.seq).chain(gaps.iter().copied());
    places.into_iter().find(whole).or_else(|| {
        others()
            .find(|other| link.computed_at(other.seq, other.prev) == other.hash)
            .map(|other| other.seq)
    })
}

/// Whether this row says that a month was dropped and left this anchor.
fn attests(link: &Link, anchor: Head) -> bool {
    link.action == Action::AuditExpired.as_str()
        && serde_json::from_str::<serde_json::Value>(&link.detail).is_ok_and(|detail| {
            detail["seq"] == anchor.seq && detail["hash"] == anchor.hash.to_string()
        })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use uuid::Uuid;

    use super::*;

    /// A chain of ten rows, as the registry writes them.
    fn chain() -> Vec<Link> {
        grown(Head::EMPTY, 10)
    }

    fn grown(start: Head, count: i64) -> Vec<Link> {
        let mut prev = start.hash;
        (start.seq + 1..=start.seq + count)
            .map(|seq| {
                let link = sealed(Link {
                    seq,
                    micros: 1_000_000 * seq,
                    id: Uuid::from_u128(u128::from(seq.unsigned_abs())),
                    phase: "started".to_owned(),
                    actor: "ada".to_owned(),
                    action: "key-unwrapped".to_owned(),
                    tenant_uid: None,
                    tenant: None,
                    outcome: None,
                    detail: "{}".to_owned(),
                    prev,
                    hash: Hash::NONE,
                });
                prev = link.hash;
                link
            })
            .collect()
    }

    /// With the hash that its content gives.
    fn sealed(mut link: Link) -> Link {
        link.hash = link.computed();
        link
    }

    fn head(links: &[Link]) -> Head {
        links.last().map_or(Head::EMPTY, |link| Head {
            seq: link.seq,
            hash: link.hash,
        })
    }

    fn check(links: Vec<Link>, head: Head, remembered: Option<Head>) -> Vec<Finding> {
        anchored(None, links, head, remembered).findings
    }

    fn anchored(
        anchor: Option<Head>,
        mut links: Vec<Link>,
        head: Head,
        remembered: Option<Head>,
    ) -> Report {
        links.sort_by_key(|link| link.seq);
        let mut checker = Checker::new(anchor, head, remembered);
        for link in links {
            checker.add(link);
        }
        checker.finish()
    }

    #[test]
    fn an_untouched_chain_is_intact() {
        let links = chain();
        let report = anchored(None, links.clone(), head(&links), Some(head(&links)));
        assert!(report.is_intact(), "{report:?}");
        assert_eq!((report.rows, report.remembered), (10, Some(true)));
        assert!(anchored(None, Vec::new(), Head::EMPTY, None).is_intact());
    }

    #[rstest]
    #[case::content(|links: &mut Vec<Link>| links[3].actor = "eve".to_owned(), Finding::Edited { seq: 4 })]
    #[case::time(|links: &mut Vec<Link>| links[3].micros += 1, Finding::Edited { seq: 4 })]
    #[case::hash(|links: &mut Vec<Link>| links[3].hash = Hash::NONE, Finding::Edited { seq: 4 })]
    #[case::hash_before(|links: &mut Vec<Link>| links[3].prev = Hash::NONE, Finding::Edited { seq: 4 })]
    #[case::first(|links: &mut Vec<Link>| links[0].actor = "eve".to_owned(), Finding::Edited { seq: 1 })]
    #[case::last(|links: &mut Vec<Link>| links[9].actor = "eve".to_owned(), Finding::Edited { seq: 10 })]
    #[case::one_removed(|links: &mut Vec<Link>| drop(links.remove(3)), Finding::Removed { from: 4, to: 4 })]
    #[case::some_removed(|links: &mut Vec<Link>| drop(links.drain(3..6)), Finding::Removed { from: 4, to: 6 })]
    #[case::first_removed(|links: &mut Vec<Link>| drop(links.remove(0)), Finding::Removed { from: 1, to: 1 })]
    #[case::last_removed(|links: &mut Vec<Link>| drop(links.remove(9)), Finding::Truncated { from: 10, to: 10 })]
    #[case::all_removed(|links: &mut Vec<Link>| links.clear(), Finding::Truncated { from: 1, to: 10 })]
    #[case::added(|links: &mut Vec<Link>| {
        let head = head(links);
        links.extend(grown(head, 2));
    }, Finding::Added { from: 11, to: 12 })]
    #[case::slipped_in(|links: &mut Vec<Link>| {
        let mut forged = links[4].clone();
        forged.actor = "eve".to_owned();
        links.push(sealed(forged));
    }, Finding::Duplicated { seq: 5 })]
    fn what_was_done_to_one_place_is_named(
        #[case] tamper: fn(&mut Vec<Link>),
        #[case] finding: Finding,
    ) {
        let mut links = chain();
        let end = head(&links);
        tamper(&mut links);
        assert_eq!(check(links, end, None), [finding]);
    }

    #[rstest]
    #[case::with_their_hashes(true)]
    #[case::without_their_hashes(false)]
    fn rows_that_changed_places_are_told_from_edited_ones(#[case] with_hashes: bool) {
        let mut links = chain();
        let end = head(&links);
        let (left, right) = (links[3].clone(), links[6].clone());
        (links[3], links[6]) = (right.clone(), left.clone());
        (links[3].seq, links[6].seq) = (left.seq, right.seq);
        if !with_hashes {
            (links[3].prev, links[3].hash) = (left.prev, left.hash);
            (links[6].prev, links[6].hash) = (right.prev, right.hash);
        }
        let moved = [
            Finding::Moved { seq: 4, from: 7 },
            Finding::Moved { seq: 7, from: 4 },
        ];
        assert_eq!(check(links, end, None), moved);
    }

    #[test]
    fn a_row_moved_to_the_end_leaves_a_gap_and_is_known_there() {
        let mut links = chain();
        let end = head(&links);
        links[3].seq = 11;
        let findings = [
            Finding::Removed { from: 4, to: 4 },
            Finding::Moved { seq: 11, from: 4 },
            Finding::Added { from: 11, to: 11 },
        ];
        assert_eq!(check(links, end, None), findings);
    }

    #[test]
    fn an_edited_row_with_a_new_hash_does_not_fit_the_row_after_it() {
        let mut links = chain();
        let end = head(&links);
        links[3].actor = "eve".to_owned();
        links[3] = sealed(links[3].clone());
        assert_eq!(check(links, end, None), [Finding::Replaced { seq: 4 }]);
    }

    #[test]
    fn a_chain_written_anew_does_not_fit_a_head_kept_elsewhere() {
        let mut links = chain();
        let end = head(&links);
        links[3].actor = "eve".to_owned();
        let mut prev = links[2].hash;
        for link in &mut links[3..] {
            link.prev = prev;
            *link = sealed(link.clone());
            prev = link.hash;
        }
        let forged_end = head(&links);
        assert_eq!(
            check(links.clone(), end, None),
            [Finding::Replaced { seq: 10 }],
            "the registry's own head"
        );
        assert_eq!(
            check(links.clone(), forged_end, None),
            [],
            "nothing left to see"
        );
        assert_eq!(
            check(links, forged_end, Some(end)),
            [Finding::Replaced { seq: 10 }],
            "a remembered head"
        );
    }

    #[test]
    fn a_head_kept_elsewhere_shows_what_was_cut_off_together_with_the_registrys() {
        let mut links = chain();
        let end = head(&links);
        links.truncate(6);
        let lowered = head(&links);
        assert_eq!(check(links.clone(), lowered, None), []);
        assert_eq!(
            check(links, lowered, Some(end)),
            [Finding::Truncated { from: 7, to: 10 }]
        );
    }

    #[test]
    fn a_chain_goes_on_from_its_anchor_if_a_row_says_that_it_was_left() {
        let old = chain();
        let anchor = head(&old);
        let mut rest = grown(anchor, 5);
        let end = head(&rest);
        let unattested = anchored(Some(anchor), rest.clone(), end, None);
        assert_eq!(unattested.findings, [Finding::Unanchored { seq: 10 }]);

        rest.pop();
        let mut note = grown(head(&rest), 1);
        note[0].action = "audit-expired".to_owned();
        note[0].detail = format!(r#"{{"seq": 10, "hash": "{}"}}"#, anchor.hash);
        rest.push(sealed(note.remove(0)));
        let end = head(&rest);
        assert!(anchored(Some(anchor), rest.clone(), end, None).is_intact());

        let remembered = |at: usize| Some(head(&old[..at]));
        let report = anchored(Some(anchor), rest.clone(), end, remembered(3));
        assert_eq!((report.is_intact(), report.remembered), (true, Some(false)));
        let report = anchored(Some(anchor), rest.clone(), end, remembered(10));
        assert_eq!((report.is_intact(), report.remembered), (true, Some(true)));

        let mut revived = rest.clone();
        revived.push(old[4].clone());
        let report = anchored(Some(anchor), revived, end, None);
        assert_eq!(report.findings, [Finding::Revived { seq: 5 }]);
        let report = anchored(None, rest, end, None);
        assert_eq!(
            report.findings,
            [Finding::Removed { from: 1, to: 10 }],
            "the anchor was taken away"
        );
    }

    #[test]
    fn findings_are_listed_up_to_a_limit_and_counted_beyond() {
        let mut links = grown(Head::EMPTY, 1500);
        let end = head(&links);
        for link in &mut links {
            link.actor = "eve".to_owned();
        }
        let report = anchored(None, links, end, None);
        assert_eq!((report.findings.len(), report.omitted), (LISTED, 500));
        assert_eq!(report.findings[0], Finding::Edited { seq: 1 });
    }

    #[test]
    fn heads_are_read_as_they_are_written() {
        let end = head(&chain());
        assert_eq!(end.to_string().parse(), Ok(end));
        for bad in ["", "10", "x:00", "-1:00", &format!("10:{}0", end.hash)] {
            assert!(bad.parse::<Head>().is_err(), "{bad:?}");
        }
    }
}
