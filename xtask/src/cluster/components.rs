//! What the cluster is built from.

use super::versions::{CILIUM, KUBERNETES};

/// One program, built from a package of one of the modules below `tests/cluster`.
pub struct Component {
    /// The program's name.
    pub output: &'static str,
    /// The folder of its Go module.
    pub module: &'static str,
    /// The Go package.
    pub package: &'static str,
    /// Build tags.
    pub tags: &'static str,
    /// Linker flags that set versions.
    pub variables: String,
    /// Folders of modules that are needed at run time: module, folder in it, name here.
    pub assets: &'static [(&'static str, &'static str, &'static str)],
    /// The module whose sources are changed while they are built, and the changes.
    pub patches: Option<(&'static str, &'static [Patch])>,
}

/// A change of a source file while it is built.
pub struct Patch {
    /// The file, in the module.
    pub file: &'static str,
    /// What the file has, once.
    pub text: &'static str,
    /// What it gets instead.
    pub instead: &'static str,
}

const TRAEFIK_PATCHES: [Patch; 7] = [
    // Traefik writes the status of routes before it serves them, through a client that
    // makes 5 requests a second and cannot be told otherwise: ten tenants at once would
    // wait for that alone.
    Patch {
        file: "pkg/provider/kubernetes/gateway/client.go",
        text: "func createClientFromConfig(c *rest.Config) (*clientWrapper, error) {\n",
        instead: "func createClientFromConfig(c *rest.Config) (*clientWrapper, error) {\n\tc.QPS, c.Burst = 1000, 2000\n",
    },
    // Where a Gateway has two listeners, Traefik writes each BackendTLSPolicy's status for
    // the one, then for the other in its place, sees the change, and starts again, for
    // ever. So the status names the Gateway, not the listener.
    Patch {
        file: "pkg/provider/kubernetes/gateway/httproute.go",
        text: "\t\t\t// Multiple BackendTLSPolicies can match the same service port, meaning that there is a conflict.\n",
        instead: "\t\t\tpolicyAncestorStatus.AncestorRef.SectionName = nil\n",
    },
    // The clients of every cloud's DNS, for ACME, and of Amazon's container service are
    // half of all that is compiled for Traefik, and nothing here uses them.
    Patch {
        file: "pkg/provider/acme/provider.go",
        text: "\t\"github.com/go-acme/lego/v4/providers/dns\"\n",
        instead: "",
    },
    Patch {
        file: "pkg/provider/acme/provider.go",
        text: "dns.NewDNSChallengeProviderByName(p.DNSChallenge.Provider)",
        instead: "nil, errors.New(\"this build has no DNS providers\")",
    },
    Patch {
        file: "pkg/config/static/static_config.go",
        text: "\t\"github.com/traefik/traefik/v3/pkg/provider/ecs\"\n",
        instead: "",
    },
    Patch {
        file: "pkg/config/static/static_config.go",
        text: "\tEcs                    *ecs.Provider ",
        instead: "\tEcs                    *struct{} ",
    },
    Patch {
        file: "pkg/provider/aggregator/aggregator.go",
        text: "\tif conf.Ecs != nil {\n\t\tp.quietAddProvider(conf.Ecs)\n\t}\n",
        instead: "",
    },
];

/// The components, those that take longest first.
pub fn components() -> Vec<Component> {
    let plain = |output, module, package| Component {
        output,
        module,
        package,
        tags: "",
        variables: String::new(),
        assets: &[],
        patches: None,
    };
    let base = "k8s.io/component-base/version";
    let cilium = format!("-X github.com/cilium/cilium/pkg/version.ciliumVersion={CILIUM}");
    vec![
        Component {
            variables: format!(
                "-X {base}.gitVersion=v{KUBERNETES} -X {base}.gitMajor=1 -X {base}.gitMinor=36"
            ),
            ..plain("kubernetes", "kubernetes", ".")
        },
        Component {
            tags: "osusergo",
            variables: cilium.clone(),
            assets: &[
                ("github.com/cilium/cilium", "bpf", "bpf"),
                (
                    "github.com/cilium/cilium",
                    "pkg/k8s/apis/cilium.io/client/crds",
                    "crds",
                ),
            ],
            ..plain("cilium-agent", "cilium", "github.com/cilium/cilium/daemon")
        },
        Component {
            assets: &[("sigs.k8s.io/gateway-api", "config/crd/standard", "crds")],
            patches: Some(("github.com/traefik/traefik/v3", &TRAEFIK_PATCHES)),
            ..plain(
                "traefik",
                "traefik",
                "github.com/traefik/traefik/v3/cmd/traefik",
            )
        },
        Component {
            tags: "osusergo,ipam_provider_operator",
            variables: cilium.clone(),
            ..plain(
                "cilium-operator-generic",
                "cilium",
                "github.com/cilium/cilium/operator",
            )
        },
        plain("coredns", "coredns", "."),
        plain("helm", "helm", "helm.sh/helm/v4/cmd/helm"),
        Component {
            tags: "osusergo",
            variables: cilium.clone(),
            ..plain(
                "cilium-dbg",
                "cilium",
                "github.com/cilium/cilium/cilium-dbg",
            )
        },
        Component {
            tags: "osusergo",
            variables: cilium,
            ..plain(
                "cilium-cni",
                "cilium",
                "github.com/cilium/cilium/plugins/cilium-cni",
            )
        },
        plain("volumes", "volumes", "."),
    ]
}
