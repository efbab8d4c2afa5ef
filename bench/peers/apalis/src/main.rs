// Cycle of 7 durable steps as an apalis-workflow (each step is a task row) on SQLite or PostgreSQL.
use apalis::layers::WorkerBuilderExt as _;
use apalis::prelude::*;
use apalis_workflow::*;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

static DONE: AtomicUsize = AtomicUsize::new(0);
static HTTP: OnceLock<reqwest::Client> = OnceLock::new();
static SINK: OnceLock<String> = OnceLock::new();
const AL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
fn payload(n: usize) -> String {
    let mut v = Vec::with_capacity(n + 10);
    while v.len() < n {
        let mut r = fastrand::u64(..);
        for _ in 0..10 {
            v.push(AL[(r & 63) as usize]);
            r >>= 6;
        }
    }
    v.truncate(n);
    String::from_utf8(v).unwrap()
}
#[derive(Serialize, Deserialize, Clone, Debug)]
struct Msg {
    id: String,
    data: String,
}
#[derive(Serialize, Deserialize, Clone, Debug)]
struct Receipt {
    id: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}
#[derive(Serialize, Deserialize, Clone, Debug)]
struct Outcome {
    id: String,
    ok: bool,
    receipt: String,
}

async fn post(m: Msg) -> Result<Receipt, BoxDynError> {
    let r = HTTP.get().unwrap().post(SINK.get().unwrap()).header("x-run-id", &m.id).body(m.data).send().await?;
    let status = r.status().as_u16();
    let headers = r.headers().iter().map(|(k, v)| (k.to_string(), v.to_str().unwrap_or("").to_string())).collect();
    Ok(Receipt { id: m.id, status, headers, body: r.text().await? })
}
async fn dispatch_only(m: Msg) -> Result<Receipt, BoxDynError> {
    let r = post(m).await?;
    DONE.fetch_add(1, SeqCst);
    Ok(r)
}
macro_rules! flow {
    () => {
        SteppedFlow::new("cycle")
            .and_then(|m: Msg| async move { Ok::<_, BoxDynError>(Msg { data: payload(1024), ..m }) }) // select
            .and_then(|m: Msg| async move { Ok::<_, BoxDynError>(Msg { data: payload(m.data.len()), ..m }) }) // tier1
            .and_then(|m: Msg| async move { Ok::<_, BoxDynError>(Msg { data: payload(m.data.len() * 16), ..m }) }) // tier2
            .and_then(|m: Msg| async move { Ok::<_, BoxDynError>(Msg { data: payload(m.data.len()), ..m }) }) // tier3
            .and_then(|m: Msg| async move { Ok::<_, BoxDynError>(Msg { data: payload(m.data.len()), ..m }) }) // normalize
            .and_then(|m: Msg| async move { post(m).await }) // dispatch
            .and_then(|r: Receipt| async move {
                DONE.fetch_add(1, SeqCst);
                Ok::<_, BoxDynError>(Outcome { id: r.id, ok: r.status == 200, receipt: r.body })
            }) // record
    };
}
fn arg(i: usize, d: usize) -> usize {
    std::env::args().nth(i).and_then(|s| s.parse().ok()).unwrap_or(d)
}
fn env(k: &str, d: u64) -> u64 {
    std::env::var(k).ok().and_then(|s| s.parse().ok()).unwrap_or(d)
}

macro_rules! drive {
    ($t0:expr, $mode:expr, $n:expr, $c:expr, $pending:expr, $mkc:expr, $mkd:expr, $total:expr) => {{
        let (t0, mode, n, c) = ($t0, $mode, $n, $c);
        let mut wf = $mkc();
        for w in 0..env("WORKERS", 1) {
            let (b1, b2) = ($mkc(), $mkd());
            let tag = std::process::id();
            tokio::spawn(async move {
                WorkerBuilder::new(format!("wf-{tag}-{w}")).backend(b1).concurrency(c).build(flow!()).run().await.unwrap();
            });
            tokio::spawn(async move {
                WorkerBuilder::new(format!("dq-{tag}-{w}")).backend(b2).concurrency(c).build(dispatch_only).run().await.unwrap();
            });
        }
        println!("{{\"ev\":\"ready\",\"s\":{:.4}}}", t0.elapsed().as_secs_f64());
        match mode.as_str() {
            "idle" => tokio::time::sleep(Duration::from_secs(3600)).await,
            "latency" => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let mut v = vec![];
                for i in 0..n {
                    let s = Instant::now();
                    let before = DONE.load(SeqCst);
                    wf.push_start(Msg { id: format!("lat-{i}"), data: String::new() }).await.unwrap();
                    while DONE.load(SeqCst) == before {
                        tokio::time::sleep(Duration::from_micros(300)).await;
                    }
                    v.push(s.elapsed().as_secs_f64() * 1e3);
                }
                v.sort_by(|a, b| a.total_cmp(b));
                println!("{{\"ev\":\"latency\",\"n\":{n},\"p50\":{:.3},\"p99\":{:.3},\"max\":{:.3}}}", v[n / 2], v[n * 99 / 100], v[n - 1]);
            }
            "recover" => {
                loop {
                    if $pending().await == 0 {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                println!("{{\"ev\":\"done\",\"s\":{:.4}}}", t0.elapsed().as_secs_f64());
            }
            _ => {
                let s = Instant::now();
                let k = env("ENQ", 8) as usize;
                let mut js = tokio::task::JoinSet::new();
                for w in 0..k {
                    let (mut wf, mut dq, mode) = ($mkc(), $mkd(), mode.clone());
                    js.spawn(async move {
                        for i in (w..n).step_by(k) {
                            let id = format!("{mode}-{i}");
                            if mode == "dispatch" {
                                dq.push(Msg { id, data: payload(16384) }).await.unwrap();
                            } else {
                                wf.push_start(Msg { id, data: String::new() }).await.unwrap();
                            }
                        }
                    });
                }
                while let Some(r) = js.join_next().await {
                    r.unwrap();
                }
                println!("{{\"ev\":\"enqueued\",\"s\":{:.4}}}", s.elapsed().as_secs_f64());
                while DONE.load(SeqCst) < n {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                while $pending().await > 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                let t = s.elapsed().as_secs_f64();
                println!("{{\"ev\":\"done\",\"n\":{n},\"s\":{t:.4},\"per_s\":{:.1}}}", n as f64 / t);
            }
        }
    }};
}

#[tokio::main]
async fn main() {
    let t0 = Instant::now();
    let mode = std::env::args().nth(1).unwrap_or("idle".into());
    let (n, c) = (arg(2, 200), arg(3, 32));
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL");
    SINK.set(std::env::var("SINK_URL").expect("SINK_URL")).unwrap();
    HTTP.set(reqwest::Client::builder().pool_max_idle_per_host(1024).build().unwrap()).unwrap();
    let (batch, poll) = (env("BATCH", 32) as usize, Duration::from_millis(env("POLL_MS", 10)));
    if url.starts_with("sqlite") {
        use apalis_sqlite::*;
        use std::str::FromStr;
        let o = sqlx::sqlite::SqliteConnectOptions::from_str(&url)
            .unwrap()
            .create_if_missing(true)
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
            .busy_timeout(Duration::from_secs(30));
        // setup() turns synchronous OFF on the connection it gets: run it on its own pool, work on a FULL one.
        let sp = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect_with(o.clone()).await.unwrap();
        SqliteStorage::setup(&sp).await.unwrap();
        sp.close().await;
        let sync = if std::env::var("SQLITE_SYNC").as_deref() == Ok("OFF") {
            sqlx::sqlite::SqliteSynchronous::Off
        } else {
            sqlx::sqlite::SqliteSynchronous::Full
        };
        let pool =
            sqlx::sqlite::SqlitePoolOptions::new().max_connections(env("POOL", 4) as u32).connect_with(o.synchronous(sync)).await.unwrap();
        let p = &pool;
        let pending = || async {
            sqlx::query_scalar::<_, i64>("select count(*) from Jobs where status in ('Pending','Queued','Running')")
                .fetch_one(p)
                .await
                .unwrap()
        };
        let mkc = || SqliteStorage::new(p).with_config(Config::default().queue("cycle").batch_size(batch)).poll_with_interval(poll);
        let mkd =
            || SqliteStorage::<Msg>::new(p).with_config(Config::default().queue("dispatch").batch_size(batch)).poll_with_interval(poll);
        drive!(t0, mode, n, c, pending, mkc, mkd, ());
    } else {
        use apalis_postgres::*;
        let pool = sqlx::postgres::PgPoolOptions::new().max_connections(env("POOL", 20) as u32).connect(&url).await.unwrap();
        PostgresStorage::setup(&pool).await.unwrap();
        let p = &pool;
        let pending = || async {
            sqlx::query_scalar::<_, i64>("select count(*) from apalis.jobs where status in ('Pending','Queued','Running')")
                .fetch_one(p)
                .await
                .unwrap()
        };
        let mkc = || PostgresStorage::new(p).with_config(Config::default().queue("cycle").batch_size(batch)).poll_with_interval(poll);
        let mkd =
            || PostgresStorage::<Msg>::new(p).with_config(Config::default().queue("dispatch").batch_size(batch)).poll_with_interval(poll);
        drive!(t0, mode, n, c, pending, mkc, mkd, ());
    }
}
