//! Requests that name another server in their first line, as they are sent to a proxy. This program is none.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

/// Refuses a request whose first line names another host than its `Host` header.
pub async fn refuse_foreign(request: Request, next: Next) -> Response {
    if !is_foreign(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    let mut response = Response::new(Body::from(r#"{"status":"400","message":"This server is no proxy"}"#));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

fn is_foreign(uri: &Uri, headers: &HeaderMap) -> bool {
    let Some(authority) = uri.authority() else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let plain = |host: &str| host.trim_end_matches(":80").trim_end_matches(":443").to_ascii_lowercase();
    host.is_none_or(|host| plain(host) != plain(authority.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_first_line_with_another_host_is_foreign() {
        let foreign = |uri: &str, host: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(header::HOST, host.parse().unwrap());
            }
            is_foreign(&uri.parse().unwrap(), &headers)
        };
        assert!(!foreign("/conversica/lead", Some("crm.example.com")) && !foreign("/", None));
        assert!(!foreign("http://CRM.example.com:8443/", Some("crm.example.com:8443")));
        assert!(!foreign("http://crm.example.com:80/", Some("crm.example.com")));
        assert!(foreign("http://other.example.com/", Some("crm.example.com")));
        assert!(foreign("http://other.example.com/", None));
    }
}
