//! From a text to the verdict of the target policy: whatever passes is canonical, public, and read alike by every parser that
//! sees it on the way to a connection.
#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;

use domain::target_url::{TargetPolicy, is_public};
use libfuzzer_sys::fuzz_target;
use url::{Host, Url};

static POLICY: LazyLock<TargetPolicy> = LazyLock::new(|| {
    let triggers = ["webtrigger.atlassian.app", "hello.atlassian-dev.net"];
    TargetPolicy::public(vec!["api.health.example".to_owned()], triggers.map(str::to_owned).to_vec()).allow_ipv6()
});

fuzz_target!(|text: &str| {
    let Ok(target) = POLICY.target(text) else { return };
    assert_eq!(POLICY.target(target.as_str()).as_ref(), Ok(&target), "passes again, unchanged");
    assert!(target.as_str().is_ascii() && target.as_str().len() <= TargetPolicy::MAX_URL_LENGTH);

    let url = Url::parse(target.as_str()).expect("what passed is a URL");
    assert!(matches!(url.scheme(), "http" | "https"));
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
    match url.host().expect("what passed has a host") {
        Host::Ipv4(ip) => assert!(is_public(IpAddr::V4(ip))),
        Host::Ipv6(ip) => assert!(is_public(IpAddr::V6(ip))),
        Host::Domain(name) => {
            assert!(
                name.contains('.') && name.split('.').all(|label| !label.is_empty() && label.len() <= 63)
            );
            assert!(name.parse::<IpAddr>().is_err(), "an address that passed as a name");
            for ending in [".local", ".internal", ".localhost", ".localdomain", ".webtrigger.atlassian.app"] {
                assert!(!name.ends_with(ending));
            }
        }
    }

    // The HTTP client turns the URL into this type, and the connection goes to its host.
    let uri: http::Uri = target.as_str().parse().expect("what passed is a URI");
    assert_eq!(uri.host(), url.host_str());
    assert_eq!(uri.port_u16(), url.port());
});
