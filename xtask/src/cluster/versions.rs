//! The versions of the cluster's components, as pinned in `tests/cluster`.

/// Kubernetes: all of its components and kubectl.
pub const KUBERNETES: &str = "1.36.3";
/// etcd.
pub const ETCD: &str = "3.6.8";
/// Cilium.
pub const CILIUM: &str = "1.18.3";
/// Traefik.
pub const TRAEFIK: &str = "3.6.12";
/// CoreDNS.
pub const COREDNS: &str = "1.15.0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_the_pinned_ones() {
        for (module, line) in [
            ("kubernetes", format!("k8s.io/kubernetes v{KUBERNETES}")),
            ("kubernetes", format!("go.etcd.io/etcd/server/v3 v{ETCD}")),
            ("cilium", format!("github.com/cilium/cilium v{CILIUM}")),
            (
                "traefik",
                format!("github.com/traefik/traefik/v3 v{TRAEFIK}"),
            ),
            ("coredns", format!("github.com/coredns/coredns v{COREDNS}")),
        ] {
            let file = crate::paths::cluster_sources().join(module).join("go.mod");
            let pinned = std::fs::read_to_string(file).unwrap();
            assert!(
                pinned.contains(&line),
                "{module}: {line} is not what go.mod says"
            );
        }
    }
}
