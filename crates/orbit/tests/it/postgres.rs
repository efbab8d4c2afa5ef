//! A home whose rows are in PostgreSQL: what a start says before the database is ready, and what is not done there.

use orbit_testkit::cluster::{TestDatabase, blocking, connect};

use crate::home::{Answer, Home};

/// What must never be seen.
const CANARY: &str = "canary-4f1";

#[test]
fn a_start_says_what_the_database_lacks() {
    let database = blocking(TestDatabase::empty());
    // Its address is in `.env` here, as an operator has it.
    let home = Home::lab(1);
    home.write("orbit.yaml", "storage: { backend: postgres }\n");
    let run =
        |args: &[&str]| Answer::of(home.command(args).env_remove("ORBIT_DATABASE_URL").output().unwrap());
    let refused = |hint: &str| {
        let answer = run(&["run"]);
        assert_ne!(answer.code, 0, "{answer:?}");
        assert!(answer.stderr.contains(hint), "{answer:?}");
        assert!(!answer.stderr.contains(CANARY) && !answer.stdout.contains(CANARY), "{answer:?}");
        answer.stderr
    };
    home.write(".env", "");
    refused("needs `ORBIT_DATABASE_URL`, which is not set\n  hint: set it in `.env`");
    home.write(".env", &format!("ORBIT_DATABASE_URL='postgres://u:{CANARY}@127.0.0.1:9/d'\n"));
    refused("the store `postgres 127.0.0.1/d` failed");
    home.write(".env", &format!("ORBIT_DATABASE_URL='nonsense {CANARY}'\n"));
    refused("its address is no PostgreSQL URL");
    home.write(".env", &format!("ORBIT_DATABASE_URL='{}'\n", database.owner()));
    refused("has schema 0, and 2 is needed\n  hint: `orbit database migrate`");

    let migrate = |args: &[&str], url: &str| {
        let mut command = home.command(&[&["database", "migrate", "--json"], args].concat());
        let output = command.env("ORBIT_DATABASE_OWNER_URL", url).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    assert_eq!(home.run(&["database", "migrate"]).code, 2);
    let told = migrate(&["--dry-run"], &database.owner());
    assert_eq!((&told["before"], &told["migrations"]), (&0.into(), &serde_json::json!([1, 2])), "{told}");
    assert_eq!(migrate(&[], &database.owner())["migrations"], serde_json::json!([1, 2]));
    assert_eq!(migrate(&[], &database.owner())["migrations"], serde_json::json!([]));

    refused("bypasses row-level security");
    home.write(".env", &format!("ORBIT_DATABASE_URL='{}'\n", database.runtime()));
    let answer = run(&["run"]);
    assert_eq!(answer.code, 0, "{answer:?}");
}

#[test]
fn a_cycle_and_what_is_read_of_it() {
    let home = Home::on_postgres().furnished(2);
    assert_eq!(home.run(&["run"]).code, 0);
    assert_eq!(home.run(&["run"]).code, 0);
    assert_eq!(home.run(&["run"]).code, 5, "both items are used up");
    let status = home.json(&["status"], 0);
    assert_eq!(status["storage"], "postgres");
    let runs = home.json(&["runs", "list"], 0);
    assert_eq!(runs["items"].as_array().unwrap().len(), 2, "{runs}");
    let positions: Vec<_> =
        home.records().iter().map(|record| record["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, (0..positions.len() as u64).collect::<Vec<_>>());
    assert!(!home.path("data/lab/orbit.db").exists() && !home.path("data/system/orbit.db").exists());
    let doctor = home.run(&["doctor"]);
    assert!(doctor.stdout.contains("answers: PostgreSQL"), "{doctor:?}");
    assert!(doctor.stdout.contains("its clock and this one agree"), "{doctor:?}");
}

#[test]
fn what_works_on_files_says_what_to_do_instead() {
    let home = Home::on_postgres().furnished(1);
    let refused = |args: &[&str], hint: &str| {
        let answer = home.run(args);
        assert_eq!(answer.code, 2, "{answer:?}");
        assert!(answer.stderr.contains("the rows of this home are in PostgreSQL"), "{answer:?}");
        assert!(answer.stderr.contains(hint), "{answer:?}");
    };
    let copy = home.path("copy");
    refused(&["backup", copy.to_str().unwrap()], "pg_dump");
    assert!(!copy.exists());
    refused(&["gc", "--compact"], "autovacuum");
    let checked = home.run(&["check"]);
    assert_eq!(checked.code, 0);
    assert!(checked.stdout.contains("which no other node sees"), "{checked:?}");
    home.write("orbit.yaml", "storage: { backend: postgres }\nnonsense: 1\n");
    let answer = home.run(&["status"]);
    assert_eq!(answer.code, 2, "nothing is opened that might be the wrong store: {answer:?}");
    assert!(!home.path("data/system/orbit.db").exists());
}

#[test]
fn a_log_is_verified() {
    let home = Home::on_postgres().furnished(2);
    assert_eq!(home.run(&["run"]).code, 0);
    let change = |sql: &str| {
        let sql = format!("SET session_replication_role = replica; SET orbit.namespace = 'lab'; {sql}");
        blocking(async { connect(&home.database_owner()).await.batch_execute(&sql).await.unwrap() });
    };
    let verified = home.json(&["log", "verify"], 0);
    let of = |verified: &serde_json::Value, namespace: &str| {
        let mut items = verified["items"].as_array().unwrap().iter();
        items.find(|item| item["namespace"] == namespace).unwrap()["report"].clone()
    };
    assert_eq!(of(&verified, "lab")["size"], home.records().len());
    assert!(of(&verified, "system")["size"].as_u64() > Some(1), "{verified}");
    let text = home.run(&["log", "verify", "-n", "lab"]);
    assert!(text.stdout.starts_with("lab: as it was written") && text.code == 0, "{text:?}");
    change("UPDATE log_bodies SET body = replace(body, 'item-0', 'item-9') WHERE body LIKE '%item-0%'");
    let verified = home.json(&["log", "verify", "-n", "lab"], 1);
    assert_eq!(of(&verified, "lab")["faults"]["kept"][0]["table"], "log_bodies", "{verified}");
    change("UPDATE log_bodies SET body = replace(body, 'item-9', 'item-0') WHERE body LIKE '%item-9%'");
    home.json(&["log", "verify"], 0);
    change("UPDATE steps SET attempts = attempts + 1 WHERE place = 0");
    let verified = home.json(&["log", "verify", "-n", "lab"], 1);
    let fault = &of(&verified, "lab")["faults"]["kept"][0];
    assert_eq!(fault["table"], "steps", "{verified}");
    assert_eq!(fault["difference"], "`attempts` is `2`, and its records come to `1`");
    change("UPDATE steps SET attempts = attempts - 1 WHERE place = 0");
    home.json(&["log", "verify"], 0);

    assert!(!home.path("data/lab/copy.db").exists());
    let serving = home.serve();
    home.json(&["log", "verify"], 0);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn an_owner_needs_no_more_than_its_database_and_to_make_roles() {
    let database = blocking(TestDatabase::empty());
    let sql = "CREATE ROLE keeper LOGIN CREATEROLE;
        DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO keeper', current_database()); END $$";
    blocking(async { connect(&database.owner()).await.batch_execute(sql).await.unwrap() });
    let home = Home::lab(1);
    home.write("orbit.yaml", "storage: { backend: postgres }\n");
    home.write(".env", &format!("ORBIT_DATABASE_URL='{}'\n", database.runtime()));
    let with = |role: &str, args: &[&str]| {
        let mut command = home.command(args);
        command.env("ORBIT_DATABASE_OWNER_URL", database.role(role)).env_remove("ORBIT_DATABASE_URL");
        Answer::of(command.output().unwrap())
    };
    let refused = with("orbit_runtime", &["database", "migrate"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("must own the database"), "{refused:?}");
    let migrated = with("keeper", &["database", "migrate"]);
    assert!(migrated.code == 0 && migrated.stdout.contains("schema 2, was 0"), "{migrated:?}");
    let owner = database.role("keeper");
    home.write(".env", &format!("ORBIT_DATABASE_URL='{owner}'\n"));
    let refused = with("keeper", &["run"]);
    assert!(refused.stderr.contains("its role may change what"), "{refused:?}");
    home.write(".env", &format!("ORBIT_DATABASE_URL='{}'\n", database.runtime()));
    assert_eq!(with("keeper", &["run"]).code, 0);
    // Something is missing that has to be made again, as the owner alone may.
    let damage = "SET session_replication_role = replica; DELETE FROM steps; DELETE FROM run_requests; DELETE FROM runs";
    blocking(async { connect(&database.owner()).await.batch_execute(damage).await.unwrap() });
    let rebuilt = with("keeper", &["doctor", "--rebuild"]);
    assert!(rebuilt.code == 0 && rebuilt.stdout.contains("made again from the log"), "{rebuilt:?}");
    assert_eq!(with("keeper", &["doctor", "--rebuild", "--dry-run"]).code, 0);
}
