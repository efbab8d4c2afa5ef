//! Nodes: a home and the `orbit serve` on it each, all with the same documents on one database.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use orbit_testkit::cluster::{Session, TestDatabase, blocking};
use orbit_testkit::proxy::Proxy;

use crate::home::{Home, Serving};
use crate::receiver::Receiver;

/// Whose programs wait as long as a test holds them, and who is then killed or cut off.
pub const VICTIM: &str = "north";
const NAMES: [&str; 3] = [VICTIM, "south", "east"];
/// Runs of one cycle.
const SURFACES: usize = 20;

pub struct Node {
    pub name: &'static str,
    pub home: Home,
    pub serving: Option<Serving>,
}

pub struct World {
    pub nodes: Vec<Node>,
    pub database: Arc<TestDatabase>,
    /// The way of the one that is cut off.
    pub proxy: Proxy,
    pub receiver: Receiver,
    pub cycles: usize,
    /// While it is there, programs of the second tier wait on the one that is killed or cut off.
    hold: PathBuf,
    /// Asks the database around everything that is tested, from the first question on.
    owner: OnceLock<Session>,
    _folder: tempfile::TempDir,
}

impl World {
    /// So many nodes, which are not started, and documents for at least so many runs.
    pub fn new(nodes: usize, runs: usize) -> Self {
        let database = Arc::new(blocking(TestDatabase::lent()));
        let proxy = database.proxy();
        let folder = tempfile::tempdir().unwrap();
        let hold = folder.path().join("hold");
        let receiver = Receiver::accepting();
        let cycles = runs.div_ceil(SURFACES);
        let homes: Vec<_> = NAMES[..nodes]
            .iter()
            .map(|name| {
                let direct = database.runtime();
                let url =
                    if *name == VICTIM { proxy.config("orbit_runtime", database.name()) } else { direct };
                (*name, Home::on_database(&database, url))
            })
            .collect();
        let victim = homes[0].1.root().display().to_string();
        let nodes = homes.into_iter().map(|(name, home)| {
            furnish(&home, name, cycles);
            // The same document everywhere: the program finds out by its folder whose it is.
            let waits = format!(
                "case \"$PWD\" in {victim}/*) while [ -e {0} ]; do echo >{0}.held; sleep 0.1; done;; esac",
                hold.display()
            );
            home.processor("two", &format!("cat; echo two; {waits}"), "");
            home.endpoint(
                "sink",
                &receiver.url("/"),
                "retry: { attempts: 20, schedule: [200ms] }\nconcurrency: 8\n",
            );
            Node { name, home, serving: None }
        });
        let nodes = nodes.collect();
        Self { nodes, database, proxy, receiver, cycles, hold, owner: OnceLock::new(), _folder: folder }
    }

    pub fn runs(&self) -> usize {
        self.cycles * SURFACES
    }

    pub fn serve(&mut self) {
        for node in &mut self.nodes {
            node.serving = Some(node.home.serve());
        }
    }

    pub fn victim(&mut self) -> &mut Node {
        &mut self.nodes[0]
    }

    /// One that nothing happens to.
    pub fn witness(&self) -> &Home {
        &self.nodes[1].home
    }

    pub fn hold(&self) {
        std::fs::write(&self.hold, "").unwrap();
    }

    /// A program of the victim waits until it is let go: one that is merely at work would not tell from it.
    pub fn holds(&self) -> bool {
        self.hold.with_extension("held").exists()
    }

    pub fn let_go(&self) {
        std::fs::remove_file(&self.hold).unwrap();
    }

    /// What one statement answers, as text.
    pub fn ask(&self, sql: &str) -> String {
        self.owner.get_or_init(|| Session::new(&self.database.owner())).ask(sql)
    }
}

fn furnish(home: &Home, name: &str, cycles: usize) {
    let node = std::fs::read_to_string(home.path("orbit.yaml")).unwrap();
    home.write("orbit.yaml", &format!("node: {{ name: {name} }}\n{node}"));
    home.write(".env", &format!("ORBIT_LOG_SEED={}\n", "5a".repeat(32)));
    home.items(cycles);
    for tier in ["one", "three"] {
        home.processor(tier, &format!("cat; echo {tier}"), "");
    }
    let labels: Vec<_> = (1..=SURFACES).map(|number| format!("surface-{number}")).collect();
    for (number, label) in (1..).zip(&labels) {
        home.profile(label, number, "distribution_map: [{ endpoint: sink }]\n");
    }
    home.run_profile("daily", 1, &format!("[{}]", labels.join(", ")), "  overlap: allow\n");
}
