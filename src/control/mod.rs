//! The operator: one pipeline from a `Tenant` to its silo.
//!
//! | step                 | file             |                                                                   |
//! |----------------------|------------------|-------------------------------------------------------------------|
//! | the pass             | [`reconcile`]    | the six steps, in order                                           |
//! | 1 observe            | [`observe`]      | what the watches have shown, and looks that cost nothing          |
//! | 2 validate           | `api::valid`     | a tenant that can be carried out, or what is wrong with it        |
//! | 3 plan               | [`plan`]         | only what differs                                                 |
//! | 4 execute            | [`execute`]      | all effects, through [`writer`]                                   |
//! | 5 assess             | [`assess`]       | conditions that say why                                           |
//! | 6 publish            | [`publish`]      | status, event, metric, when to look again                         |
//!
//! Around it: [`watches`] fill [`observations`] with [`seen`] objects, whose drift [`ownership`] tells; [`lease`] lets
//! one replica write; [`storage_classes`] say when volumes are bound; [`plan_list`] tells admission which plans there are;
//! [`plane`] keeps the plane's own certificates and [`registry`] the way to the registry; [`tenant_keys`] has keys made,
//! [`rotation`] has them replaced, and [`offboarding`] ends tenants; [`parts`] puts all together and [`run`] runs it.

pub mod act;
pub mod assess;
pub mod changes;
pub mod context;
pub mod execute;
pub mod exports;
pub mod kind;
pub mod lease;
pub mod memory;
pub mod observations;
pub mod observe;
pub mod offboarding;
pub mod ownership;
pub mod parts;
pub mod plan;
pub mod plan_list;
pub mod plane;
pub mod probe;
pub mod publish;
pub mod reconcile;
pub mod registry;
pub mod rotation;
pub mod run;
pub mod seen;
pub mod storage_classes;
pub mod tenant_keys;
#[cfg(test)]
mod tests;
pub mod watches;
pub mod writer;

pub use run::run;
