//! What others are measured with: the receiver of deliveries, and a PostgreSQL server with databases, as ORBIT itself has them. One line on standard input asks,
//! one line of JSON on standard output answers; both end with the input.
//!
//! `reset`: nothing has been delivered. `delivered`: how many different ones have come, and how many again. `database NAME`: it is there and empty, and where
//! its server is.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::postgres::Server;
use crate::receiver::Receiver;

pub(crate) async fn serve(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let folder = folder.canonicalize()?;
    let receiver = Receiver::start(Arc::new(Semaphore::new(0))).await?;
    receiver.tell_apart();
    let mut server = None;
    println!("{}", json!({ "url": receiver.url }));
    // The receiver is at work on other threads.
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<_> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["reset"] => {
                receiver.tell_apart();
                Value::Null
            }
            ["delivered"] => {
                let (different, again) = receiver.keys();
                json!({ "different": different, "again": again })
            }
            ["database", name] => {
                if server.is_none() {
                    server = Some(Server::start(&folder).await?);
                }
                let server = server.as_ref().context("no server")?;
                server.renew(name).await?;
                json!({ "host": server.host() })
            }
            _ => anyhow::bail!("`{line}` is not understood"),
        };
        println!("{answer}");
    }
    if let Some(server) = server {
        server.stop();
    }
    Ok(())
}
