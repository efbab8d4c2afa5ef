//! The database of a home whose rows are in one: whether it is reached, what it is, and whether this role may serve from it.

use std::time::Duration;

use jiff::SignedDuration;
use orbit_core::config::NamespaceName;
use orbit_engine::clock::{Clock, SystemClock};
use orbit_engine::layout::Layout;
use orbit_store::postgres::{Look, SCHEMA, Server};

use super::{Finding, stores_of};
use crate::config::LoadedNamespace;
use crate::environment::Environment;
use crate::render::units::duration;
use crate::stores::DatabaseError;

const AREA: &str = "database";
/// A question that takes longer makes every commit slow: each is some of them in a row.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(20);
/// Leases are timed by the server's clock and schedules by this one; so far apart, people read them as two stories.
const CLOCKS_APART_MAX: SignedDuration = SignedDuration::from_secs(2);

/// Looks, and changes nothing.
pub(super) async fn findings(
    layout: &Layout,
    environment: &Environment,
    documents: &[LoadedNamespace],
) -> Vec<Finding> {
    let mut found = Vec::new();
    let left = stores_of(layout);
    if !left.is_empty() {
        let names: Vec<_> = left.iter().map(|name| format!("`{name}`")).collect();
        let message = format!("this home has SQLite stores too, of {}, which nobody reads", names.join(", "));
        let hint = "what they remember is in the database only if `orbit migrate-store` moved it there; remove them when you will not miss them";
        found.push(Finding::warning(AREA, message, hint));
    }
    let problem = |error: &DatabaseError| Finding::problem(AREA, error.to_string(), error.hint());
    let Some(url) = environment.database_url() else {
        found.push(problem(&DatabaseError::Unset));
        return found;
    };
    let looked = match Server::at(url.expose()) {
        Ok(server) => server.look().await.map(|look| (server, look)),
        Err(error) => Err(error),
    };
    let (server, look) = match looked {
        Ok(looked) => looked,
        Err(error) => {
            found.push(problem(&error.into()));
            return found;
        }
    };
    found.extend(of_look(server.place(), &look));
    if server.is_unprotected() {
        let hint = "take `sslmode=disable` out of `ORBIT_DATABASE_URL`; the server needs a certificate then";
        found.push(Finding::warning(AREA, "everything goes to the database unprotected", hint));
    }
    if !found.iter().any(Finding::is_problem) {
        for name in documents.iter().map(|one| &one.name).chain([&NamespaceName::system()]) {
            found.extend(halted(&server, name).await);
        }
        for loaded in documents {
            found.extend(differs(&server, loaded).await);
        }
    }
    found
}

/// What there is to say of what was seen.
fn of_look(place: &str, look: &Look) -> Vec<Finding> {
    let Look { version, role, refusal, schema, round_trip, clock } = look;
    let mut found = vec![Finding::ok(AREA, format!("{place} answers: PostgreSQL {version}, as `{role}`"))];
    match (schema, refusal) {
        (Err(error), _) => {
            let error = DatabaseError::Store(error.clone());
            found.push(Finding::problem(AREA, error.to_string(), error.hint()));
        }
        (Ok(()), None) => found.push(Finding::ok(AREA, format!("schema {SCHEMA}"))),
        (Ok(()), Some(_)) => {}
    }
    if let Some(refusal) = refusal {
        let hint =
            "`ORBIT_DATABASE_URL` must name the role `orbit_runtime`, which `orbit database migrate` makes";
        found.push(Finding::problem(AREA, format!("{place} is refused: {refusal}"), hint));
    }
    let slow = format!("one question takes {:.1} ms", round_trip.as_secs_f64() * 1e3);
    found.push(if *round_trip > ROUND_TRIP_MAX {
        Finding::warning(AREA, slow, "every commit is some of them in a row: a server nearby does more")
    } else {
        Finding::ok(AREA, slow)
    });
    let apart = SystemClock.now().duration_since(*clock).abs();
    found.push(if apart > CLOCKS_APART_MAX {
        let message = format!("its clock and this one are {} apart", duration(apart));
        Finding::warning(AREA, message, "synchronise both, with NTP for example")
    } else {
        Finding::ok(AREA, "its clock and this one agree")
    });
    found
}

/// Whether the documents are what is active; nothing where nothing is yet.
async fn differs(server: &Server, loaded: &LoadedNamespace) -> Option<Finding> {
    let (name, documents) = (&loaded.name, loaded.snapshot.digest());
    match server.active_digest(name).await {
        Ok(None) => None,
        Ok(Some(active)) if active == documents => {
            Some(Finding::ok("configuration", format!("the documents of `{name}` are what is active")))
        }
        Ok(Some(active)) => Some(Finding::warning(
            "configuration",
            format!("the documents of `{name}` are not what is active, which is `{active}`"),
            format!(
                "`orbit config diff -n {name}` shows what differs, `orbit config apply -n {name}` activates them"
            ),
        )),
        Err(error) => Some(Finding::problem("store", error.to_string(), DatabaseError::Store(error).hint())),
    }
}

async fn halted(server: &Server, name: &NamespaceName) -> Option<Finding> {
    match server.halted(name).await {
        Ok(None) => None,
        Ok(Some(halt)) => Some(Finding::warning(
            "store",
            format!("`{name}` is halted: {}", halt.reason),
            "`orbit resume` lifts a halt",
        )),
        Err(error) => Some(Finding::problem("store", error.to_string(), DatabaseError::Store(error).hint())),
    }
}
