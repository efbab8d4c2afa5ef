//! Deliveries a second from a durable queue, each with a record before its first byte and a receipt after its last, against a bare client that sends
//! the same bytes to the same receiver, with as many under way, and keeps nothing. Both make a connection for each: the engine dials only an address that it
//! has just judged. What a client does that keeps its connections is told too.
//!
//! The queue is what runs have left whose receiver refused everything; it is sent again, so that nothing else is measured but the sending.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Effort;
use crate::payload::LARGE_BYTES;
use crate::receiver::Receiver;
use crate::report::{Better, Measured, Report, bar, median};
use crate::world::{ATTEMPTS_EACH, Commits, Redriven, World};

/// Under way at once.
const AT_ONCE: usize = 64;
/// Of the bare client's speed.
const TARGET: f64 = 0.5;

pub(crate) async fn measure(folder: &Path, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let world = World::start(folder, (AT_ONCE / ATTEMPTS_EACH, LARGE_BYTES), Commits::Grouped).await?;
    let receiver = Receiver::start(Arc::new(Semaphore::new(0))).await?;
    let bar = bar("deliveries", effort.repeats * 2);
    let (mut speeds, mut bare, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    let speed = |took: Duration| effort.deliveries as f64 / took.as_secs_f64();
    for _ in 0..effort.repeats {
        let Redriven { took, own, bytes } = world.redrive(effort.deliveries).await?;
        let each = |count: u64| count as f64 / effort.deliveries as f64;
        report.say(&format!(
            "{:.0} deliveries/s; each is {:.2} commits, {:.1} transactions, {:.1} records and {:.0} KiB written; the writer is busy {:.0} % of the time",
            speed(took),
            each(own.commits),
            each(own.transactions),
            each(own.records),
            each(bytes) / 1024.0,
            100.0 * own.busy.as_secs_f64() / took.as_secs_f64(),
        ));
        speeds.push(speed(took));
        bar.inc(1);
        bare.push(speed(post(receiver.address(), effort.deliveries, false).await?));
        kept.push(speed(post(receiver.address(), effort.deliveries, true).await?));
        bar.inc(1);
    }
    bar.finish_and_clear();
    world.stop().await;
    let target = (TARGET, Better::Higher);
    let value = median(&speeds);
    report.add("deliveries", Measured::against(value, "deliveries/s", median(&bare), target));
    let kept = Measured::against(value, "deliveries/s", median(&kept), target).told();
    report.add("deliveries_beside_kept_connections", kept);
    Ok(())
}

/// Posts so many bodies, each over a connection of its own or all over a few; how long that took.
async fn post(address: &str, count: u64, keeps: bool) -> anyhow::Result<Duration> {
    let then = if keeps { "keep-alive" } else { "close" };
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {address}\r\nconnection: {then}\r\ncontent-length: {LARGE_BYTES}\r\n\r\n"
    );
    let request = Arc::new([head.into_bytes(), vec![b'7'; LARGE_BYTES]].concat());
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut senders = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (request, next, address) = (Arc::clone(&request), Arc::clone(&next), address.to_owned());
        senders.spawn(async move {
            let mut kept = None;
            while next.fetch_add(1, Ordering::Relaxed) < count {
                let mut stream = match kept.take() {
                    Some(stream) => stream,
                    None => TcpStream::connect(&address).await?,
                };
                stream.write_all(&request).await?;
                let mut answer = Vec::new();
                while !answer.ends_with(b"\r\n\r\nok") && stream.read_buf(&mut answer).await? > 0 {}
                anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
                kept = keeps.then_some(stream);
            }
            anyhow::Ok(())
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    Ok(began.elapsed())
}
