//! A worker that anyone can measure, on DynamoDB or SQLite leases, against any Kinesis endpoint.
//!
//! It reports what it does as JSON lines: the event file by which consumers of different libraries are compared as
//! black boxes. The integration tests and the fleet benchmark of this repository run it as their worker process.
//!
//! ```text
//! cargo run --bin shardkeeper --features cli -- local --kinesis-port 4567 --dynamodb-port 8000 --stream clicks:4
//! cargo run --example peer_consumer -- --stream clicks --app reader --worker w1 --events w1.jsonl \
//!     --kinesis-endpoint http://127.0.0.1:4567 --dynamodb-endpoint http://127.0.0.1:8000
//! ```

mod peer;

fn main() -> std::process::ExitCode {
    peer::main(std::env::args_os())
}
