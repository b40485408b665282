//! What the cluster's storage classes say of a volume: when it is bound, and whether it can grow.
//!
//! A class binds a claim at once or with its first pod. A claim that is bound at once looks bound to the scheduler a
//! moment before it does to the kubelet, which then comes back only after 10 to 15 seconds: so where a class binds at
//! once, the database's pod is made when its claim says so.

use k8s_openapi::api::storage::v1::StorageClass;
use kube::{ResourceExt, runtime::reflector::Store};

/// Marks the class of claims that name none.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// When a claim is bound to a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Binding {
    /// The class is not known.
    #[default]
    Unknown,
    /// At once.
    Immediate,
    /// When a pod uses it.
    WithPod,
}

/// What the class of a volume says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Storage {
    /// When a claim is bound.
    pub binding: Binding,
    /// Whether a volume can be made larger; none where the class is not known.
    pub expands: Option<bool>,
}

/// What the class of this name says; the default class if there is no name.
#[must_use]
pub fn storage(classes: &Store<StorageClass>, name: Option<&str>) -> Storage {
    let class = classes.find(|class| match name {
        Some(name) => class.name_any() == name,
        None => class.annotations().get(DEFAULT_CLASS).map(String::as_str) == Some("true"),
    });
    class.map_or_else(Storage::default, |class| Storage {
        binding: match class.volume_binding_mode.as_deref() {
            Some("WaitForFirstConsumer") => Binding::WithPod,
            _ => Binding::Immediate,
        },
        expands: Some(class.allow_volume_expansion == Some(true)),
    })
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector::store, watcher::Event};
    use serde_json::json;

    use super::*;

    fn classes() -> Store<StorageClass> {
        let (store, mut writer) = store();
        for class in [
            json!({"metadata": {"name": "local", "annotations": {DEFAULT_CLASS: "true"}}, "provisioner": "p", "volumeBindingMode": "Immediate"}),
            json!({"metadata": {"name": "cloud"}, "provisioner": "p", "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true}),
        ] {
            let class = serde_json::from_value(class).unwrap();
            writer.apply_watcher_event(&Event::Apply(class));
        }
        store
    }

    #[rstest::rstest]
    #[case(None, Binding::Immediate, Some(false))]
    #[case(Some("local"), Binding::Immediate, Some(false))]
    #[case(Some("cloud"), Binding::WithPod, Some(true))]
    #[case(Some("absent"), Binding::Unknown, None)]
    fn a_class_says_when_it_binds_and_whether_volumes_grow(
        #[case] name: Option<&str>,
        #[case] binding: Binding,
        #[case] expands: Option<bool>,
    ) {
        assert_eq!(storage(&classes(), name), Storage { binding, expands });
    }
}
