//! The admin endpoint, on the port of the service: fault rules over HTTP, in JSON.
//!
//! | Request | Answer |
//! |---|---|
//! | `GET /_shardkeeper/faults` | `{"faults": [{"id": 1, "matched": 5, "fired": 3, ...the rule}]}` |
//! | `POST /_shardkeeper/faults` with a rule, or a list of rules | `{"ids": [1]}`; all are added, or none |
//! | `DELETE /_shardkeeper/faults` | all are removed |
//! | `DELETE /_shardkeeper/faults/1` | the one is removed |

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use serde::Serialize;
use serde_json::Value;

use super::faults::{ActiveFault, FaultRule, Faults};

const ROOT: &str = "/_shardkeeper/";
const FAULTS: &str = "faults";

/// What is asked for below [`ROOT`]; `None` for a request to the service.
pub(super) fn path(head: &Parts) -> Option<&str> {
    head.uri.path().strip_prefix(ROOT)
}

#[derive(Serialize)]
struct Listed {
    faults: Vec<ActiveFault>,
}

#[derive(Serialize)]
struct Added {
    ids: Vec<u64>,
}

#[derive(Serialize)]
struct Message<'a> {
    message: &'a str,
}

/// Answers a request below [`ROOT`].
pub(super) fn answer(faults: &Faults, method: &Method, path: &str, body: &[u8]) -> Response<Full<Bytes>> {
    let id = path.strip_prefix("faults/").and_then(|id| id.parse::<u64>().ok());
    match (method, path) {
        (&Method::GET, FAULTS) => json(StatusCode::OK, &Listed { faults: faults.list() }),
        (&Method::POST, FAULTS) => match add(faults, body) {
            Ok(ids) => json(StatusCode::OK, &Added { ids }),
            Err(message) => json(StatusCode::BAD_REQUEST, &Message { message: &message }),
        },
        (&Method::DELETE, FAULTS) => {
            faults.clear();
            json(StatusCode::OK, &Listed { faults: Vec::new() })
        }
        (&Method::DELETE, _) if id.is_some_and(|id| faults.remove(id)) => json(StatusCode::OK, &Listed { faults: faults.list() }),
        _ => json(
            StatusCode::NOT_FOUND,
            &Message { message: "known here: GET, POST and DELETE /_shardkeeper/faults, DELETE /_shardkeeper/faults/<id> of a rule" },
        ),
    }
}

fn add(faults: &Faults, body: &[u8]) -> Result<Vec<u64>, String> {
    let text = |error: serde_json::Error| error.to_string();
    let rules: Vec<FaultRule> = match serde_json::from_slice(body).map_err(text)? {
        Value::Array(rules) => rules.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().map_err(text)?,
        rule => vec![serde_json::from_value(rule).map_err(text)?],
    };
    rules.iter().try_for_each(FaultRule::check).map_err(|error| error.to_string())?;
    rules.into_iter().map(|rule| faults.add(rule).map_err(|error| error.to_string())).collect()
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
