//! Rotation: new versions of a tenant's keys, from the one who asks for them to the old ones that nobody gets any more.
//!
//! ```text
//! due ─→ begin ─→ rotate ─→ app: seals its rows anew ─→ retire ─→ wrap anew under the tenant's new key ─→ finish
//!        registry  key server  (asked by /keyz)          key server  key server                             registry
//! ```
//!
//! | file       | what                                                                  |
//! |------------|-----------------------------------------------------------------------|
//! | [`due`]    | pure: which keys are too old                                          |
//! | [`job`]    | what a rotation is about, as the registry keeps it                    |
//! | [`look`]   | reads: how far it is, asked only while there is one                   |
//! | [`next`]   | pure: the next step, or what is waited for                            |
//! | [`act`]    | one step                                                              |
//! | [`report`] | pure: what the tenant's status says of it                             |
//!
//! Each pass takes one step, and every step may be repeated: which versions are replaced is fixed when the rotation
//! begins, and the key server is told which version a new one takes the place of. So whoever takes over goes on with
//! what registry and key server say.

pub mod act;
pub mod due;
pub mod job;
pub mod look;
pub mod next;
pub mod report;
#[cfg(test)]
mod tests;
