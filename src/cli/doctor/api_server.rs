//! Is there an API server, and is it new enough?

use super::super::cluster::Cluster;
use super::super::failure::Failure;
use super::report::Check;

const NAME: &str = "api-server";

/// Oldest minor version of Kubernetes 1 that Granary is made for: the chart's `kubeVersion`, where the admission
/// policies it needs became stable.
const OLDEST_MINOR: u32 = 30;

/// Asks the API server for its version.
pub async fn check(cluster: &Cluster) -> Result<Check, Failure> {
    let client = cluster.client();
    let version = cluster
        .ask("cannot talk to the cluster", client.apiserver_version())
        .await?;
    Ok(judge(&version.git_version, &version.minor, cluster.place()))
}

fn judge(version: &str, minor: &str, place: &str) -> Check {
    let found = format!("Kubernetes {version} at {place}");
    // Some providers write `33+`.
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    match digits.parse::<u32>() {
        Ok(minor) if minor >= OLDEST_MINOR => Check::ok(NAME, found),
        Ok(_) => Check::fail(NAME, found)
            .means(format!(
                "Granary needs Kubernetes 1.{OLDEST_MINOR} or newer"
            ))
            .next("upgrade the cluster"),
        Err(_) => Check::unknown(NAME, format!("{found}, whose minor version is {minor:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn old_servers_fail_and_odd_ones_are_unknown() {
        let verdict = |minor| judge("v1.x", minor, "https://10.0.0.1").verdict;
        assert_eq!(verdict("36"), Verdict::Ok);
        assert_eq!(verdict("33+"), Verdict::Ok);
        assert_eq!(verdict("29"), Verdict::Fail);
        assert_eq!(verdict("next"), Verdict::Unknown);
    }
}
