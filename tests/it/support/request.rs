//! The part of HTTP/1.1 that reads a client's requests. Written by hand, because a test that breaks connections on
//! purpose must know to the byte which data has been read.

use std::io;
use std::time::Instant;

use tokio::io::{AsyncBufReadExt, AsyncReadExt};

/// A request as it arrived, before any answer.
#[derive(Clone, Debug)]
pub struct Request {
    /// 1 for the first request that this endpoint received.
    pub n: usize,
    /// The number of its connection, counted likewise.
    pub connection: usize,
    pub method: String,
    pub path: String,
    /// Names in lower case, in the order of arrival.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The `id` of the body, when it is a JSON object with one.
    pub id: Option<String>,
    /// The arrival time of the body's last byte.
    pub arrived_at: Instant,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}: {}", self.body))
    }

    /// `None` when the client has closed the connection between two requests.
    pub async fn read(stream: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<Self>> {
        let Some(first) = line(stream).await? else { return Ok(None) };
        let mut words = first.split(' ').map(str::to_owned);
        let (Some(method), Some(path)) = (words.next(), words.next()) else { return Err(malformed("request line")) };
        let mut headers = Vec::new();
        loop {
            let line = line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| malformed("header"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let header = |name: &str| headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str());
        if header("transfer-encoding").is_some() {
            return Err(malformed("body: this endpoint reads bodies of a stated length only"));
        }
        let length = header("content-length").map_or(Ok(0), str::parse).map_err(|_| malformed("length"))?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let body = String::from_utf8_lossy(&body).into_owned();
        let id = serde_json::from_str::<serde_json::Value>(&body).ok().and_then(|body| match &body["id"] {
            serde_json::Value::String(id) => Some(id.clone()),
            serde_json::Value::Number(id) => Some(id.to_string()),
            _ => None,
        });
        Ok(Some(Self { n: 0, connection: 0, method, path, headers, body, id, arrived_at: Instant::now() }))
    }
}

async fn line(stream: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<String>> {
    let mut line = String::new();
    let bytes = stream.read_line(&mut line).await?;
    Ok((bytes > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed {what}"))
}
