//! The operator's own certificates: it makes them, so it need not wait for the kubelet to mount them.

use std::fmt;

use k8s_openapi::api::core::v1::Secret;
use zeroize::Zeroizing;

use super::PlaneError;
use crate::{
    pki::{Issued, Leaf, PlaneLeafs},
    resources::plane::OPERATOR_TLS,
};

/// How the operator proves who it is to the registry, and knows registry and key server.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Certificates of the authorities that both servers' certificates are checked by.
    pub authorities_pem: String,
    /// For the registry's role `owner`, which migrates it.
    pub owner: Identity,
    /// For the registry's role `app`.
    pub app: Identity,
}

/// A client certificate with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub certificate_pem: String,
    /// Its key.
    pub key_pem: Zeroizing<String>,
}

impl Credentials {
    /// From what was just issued.
    pub(super) fn of(issued: &Issued<PlaneLeafs>) -> Self {
        let identity = |leaf: &Leaf| Identity {
            certificate_pem: leaf.certificate_pem.clone(),
            key_pem: Zeroizing::new(leaf.key_pem().to_owned()),
        };
        Self {
            authorities_pem: issued.bundle_pem.clone(),
            owner: identity(&issued.leafs.operator_owner),
            app: identity(&issued.leafs.operator_app),
        }
    }

    /// From the Secret that holds them.
    pub(super) fn read(secret: Option<&Secret>) -> Result<Self, PlaneError> {
        let data = secret.and_then(|secret| secret.data.as_ref());
        let text = |file: &'static str| {
            data.and_then(|data| data.get(file))
                .and_then(|content| std::str::from_utf8(&content.0).ok())
                .map(str::to_owned)
                .ok_or(PlaneError::Damaged {
                    secret: OPERATOR_TLS,
                    file,
                })
        };
        let identity = |certificate, key| -> Result<_, PlaneError> {
            Ok(Identity {
                certificate_pem: text(certificate)?,
                key_pem: Zeroizing::new(text(key)?),
            })
        };
        Ok(Self {
            authorities_pem: text("ca.crt")?,
            owner: identity("owner.crt", "owner.key")?,
            app: identity("app.crt", "app.key")?,
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}
