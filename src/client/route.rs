//! The way to an HTTPS endpoint: direct, or through the proxy that the environment names. It reads the environment as the HTTP
//! client does, so that `check` goes the same way, and messages name the proxy. It opens no connection, and shows no password.

use std::path::PathBuf;

use hyper::Uri;
use hyper::http::HeaderValue;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use url::Url;

/// The variables that name a proxy for HTTPS. Of each pair the first that is set counts; the second pair counts where the first
/// names no proxy.
const PROXY_VARIABLES: [[&str; 2]; 2] = [["HTTPS_PROXY", "https_proxy"], ["ALL_PROXY", "all_proxy"]];
/// The variables that replace the system's root certificates.
const CERTIFICATE_FILE: &str = "SSL_CERT_FILE";
const CERTIFICATE_DIRECTORIES: &str = "SSL_CERT_DIR";

/// Where connections to the endpoint go.
#[derive(Debug, Clone)]
pub struct EndpointRoute {
    pub host: String,
    pub port: u16,
    /// `None`: direct.
    pub proxy: Option<EndpointProxy>,
    /// A variable that is set and names no proxy: connections go as if it were not set.
    pub unreadable: Option<&'static str>,
}

/// A proxy.
#[derive(Debug, Clone)]
pub struct EndpointProxy {
    /// The variable that names it.
    pub variable: &'static str,
    /// `http`, `https`, `socks5`, …
    pub scheme: String,
    pub host: String,
    pub port: u16,
    /// Set where the variable contains a user name; does not print.
    pub authorization: Option<HeaderValue>,
}

impl EndpointRoute {
    /// The route of this process. Plain HTTP is for this machine only, and takes no proxy.
    pub fn of(endpoint: &Url) -> Self {
        Self::with(endpoint, |name| std::env::var(name).ok(), &Matcher::from_env())
    }

    fn with(endpoint: &Url, variable: impl Fn(&str) -> Option<String>, matcher: &Matcher) -> Self {
        let host = endpoint.host_str().unwrap_or_default().to_owned();
        let port = endpoint.port_or_known_default().unwrap_or(443);
        let mut route = Self { host, port, proxy: None, unreadable: None };
        let Some(uri) = endpoint.as_str().parse::<Uri>().ok().filter(|_| endpoint.scheme() == "https") else {
            return route;
        };
        let set = PROXY_VARIABLES.into_iter().filter_map(|pair| {
            let name = pair.into_iter().find(|name| variable(name).is_some())?;
            Some((name, variable(name)?))
        });
        for (name, value) in set.filter(|(_, value)| !value.is_empty()) {
            if Matcher::builder().https(value).build().intercept(&uri).is_none() {
                route.unreadable = route.unreadable.or(Some(name));
                continue;
            }
            route.proxy = matcher.intercept(&uri).map(|proxy| EndpointProxy::of(name, &proxy));
            break;
        }
        route
    }

    /// The endpoint with its proxy, for messages.
    pub fn in_words(&self) -> String {
        let Self { host, port, .. } = self;
        match &self.proxy {
            None => format!("{host} port {port}"),
            Some(proxy) => format!("{host} port {port}, through {}", proxy.in_words()),
        }
    }
}

impl EndpointProxy {
    fn of(variable: &'static str, proxy: &Intercept) -> Self {
        let uri = proxy.uri();
        let scheme = uri.scheme_str().unwrap_or("http").to_owned();
        let default = if scheme == "https" { 443 } else { 80 };
        Self {
            variable,
            host: uri.host().unwrap_or_default().to_owned(),
            port: uri.port_u16().unwrap_or(default),
            authorization: proxy.basic_auth().cloned(),
            scheme,
        }
    }

    /// For messages: without user name and password.
    pub fn in_words(&self) -> String {
        format!("the proxy {} port {} ({})", self.host, self.port, self.variable)
    }

    /// Whether the program can use it.
    pub fn is_supported(&self) -> bool {
        matches!(self.scheme.as_str(), "http" | "https")
    }
}

/// The files of root certificates that variables name and that cannot be found, each with its variable.
pub fn missing_certificates() -> Vec<(&'static str, PathBuf)> {
    let of = |name: &'static str| std::env::var_os(name).map(|value| (name, value));
    let file = of(CERTIFICATE_FILE).map(|(name, file)| (name, PathBuf::from(file)));
    let directories = of(CERTIFICATE_DIRECTORIES).into_iter().flat_map(|(name, value)| {
        let named: Vec<PathBuf> = std::env::split_paths(&value).filter(|path| !path.as_os_str().is_empty()).collect();
        named.into_iter().map(move |path| (name, path))
    });
    file.into_iter().chain(directories).filter(|(_, path)| std::fs::metadata(path).is_err()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(endpoint: &str, set: &[(&str, &str)], not: &str) -> EndpointRoute {
        let value = |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        let first = |pair: [&str; 2]| pair.into_iter().find_map(value).unwrap_or_default();
        let [https, all] = PROXY_VARIABLES.map(first);
        let matcher = Matcher::builder().https(https).all(all).no(not.to_owned()).build();
        EndpointRoute::with(&endpoint.parse().unwrap(), value, &matcher)
    }

    #[test]
    fn the_proxy_comes_from_the_variable_that_counts() {
        let endpoint = "https://api.example/json/";
        for (set, named) in [
            (
                &[("HTTPS_PROXY", "http://p.example:3128"), ("https_proxy", "http://q.example")][..],
                "p.example port 3128 (HTTPS_PROXY)",
            ),
            (&[("https_proxy", "q.example:8080")], "q.example port 8080 (https_proxy)"),
            (&[("ALL_PROXY", "https://u:s3cret@r.example")], "r.example port 443 (ALL_PROXY)"),
            (&[("HTTPS_PROXY", ""), ("ALL_PROXY", "http://r.example")], "r.example port 80 (ALL_PROXY)"),
            (&[("HTTPS_PROXY", "ftp://p.example"), ("ALL_PROXY", "http://r.example")], "r.example port 80 (ALL_PROXY)"),
        ] {
            let proxy = route(endpoint, set, "").proxy.expect(named);
            assert_eq!(proxy.in_words(), format!("the proxy {named}"));
            assert!(!format!("{proxy:?}").contains("s3cret"));
        }
        assert_eq!(route(endpoint, &[("HTTPS_PROXY", "ftp://p.example")], "").unreadable, Some("HTTPS_PROXY"));
        assert!(!route(endpoint, &[("HTTPS_PROXY", "socks5://p.example")], "").proxy.unwrap().is_supported());
    }

    #[test]
    fn no_proxy_and_plain_http_go_direct() {
        let set = [("HTTPS_PROXY", "http://p.example:3128"), ("ALL_PROXY", "http://r.example")];
        assert!(route("https://api.example/", &set, "other.example, .example").proxy.is_none());
        assert!(route("http://127.0.0.1:8080/", &set, "").proxy.is_none());
        assert!(route("https://api.example/", &[], "").proxy.is_none());
        assert_eq!(
            route("https://api.example/", &set, "other").in_words(),
            "api.example port 443, through the proxy p.example port 3128 (HTTPS_PROXY)"
        );
    }
}
