//! PostgreSQL: the conformance suite as the engine's role, and what only a server can show.

mod cluster;
mod isolation;
mod leases;
mod misbehaves;
mod nodes;
mod rewound;
mod schema;
mod tls;
mod transfer;
mod turns;
mod twins;
mod upgrade;

mod suite {
    crate::conformance::conformance! { crate::postgres::cluster::store().await }
}
