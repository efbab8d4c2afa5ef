//! Checkpoints and who signs them: those of the store, and those that were kept elsewhere.

use orbit_core::record::audit::{Fault, Row, Sequence};
use orbit_core::record::checkpoint::Checkpoint;
use orbit_core::record::key::Verifier;
use orbit_core::record::rotation::Rotation;
use rusqlite::{Connection, OptionalExtension};
use serde::Deserialize;

use super::notes::{InOrder, Outside};
use super::{Report, Request, Vouched};
use crate::sqlite::columns::Length;
use crate::sqlite::fault::Attempt;

/// A row of `log_checkpoints`.
struct Stored {
    number: u64,
    size: u64,
    root: Vec<u8>,
    note: String,
}

/// A row of `log_signers`.
struct SignerRow {
    number: u64,
    origin: String,
    vkey: String,
    size: u64,
    told: bool,
    /// Whether the key before it and this one have both signed that it follows.
    is_handed_over: bool,
    /// Leaves in the largest checkpoint that it has signed.
    signed: Option<u64>,
}

/// What a record that begins a name or a key says.
#[derive(Deserialize)]
struct Told {
    origin: String,
    vkey: String,
    #[serde(default)]
    statement: Option<String>,
}

/// See the module.
pub(super) struct Checkpoints<'a> {
    next: Option<Stored>,
    last_number: Option<u64>,
    outside: InOrder<'a>,
    signers: Vec<SignerRow>,
    /// The key that was given.
    key: Option<String>,
    /// Whether a root was another: then all that follow are, which is not told again.
    differs: bool,
}

impl<'a> Checkpoints<'a> {
    /// Reads who signs, and the checkpoints from elsewhere. Those of the store are checked up to the newest one of now.
    pub(super) fn begin(
        request: &Request<'a>,
        connection: &Connection,
        report: &mut Report,
    ) -> Attempt<Self> {
        let outside = InOrder::begin(request.against, &mut report.faults)?;
        let signers = signers(connection)?;
        let key = request.key.as_ref().map(ToString::to_string);
        if let Some(key) = key.as_ref().filter(|key| !signers.iter().any(|row| row.vkey == **key)) {
            let difference = format!("no row has the key that was given, `{key}`");
            report.faults.add(Fault::of("log_signers", "all rows", difference));
        }
        let last = "SELECT max(number) FROM log_checkpoints";
        let last_number = connection.query_row(last, (), |row| row.get::<_, Option<Length>>(0))?;
        let last_number = last_number.map(|last| last.0);
        let mut all = Self { next: None, last_number, outside, signers, key, differs: false };
        all.load_next(connection, 0, report)?;
        Ok(all)
    }

    fn load_next(&mut self, connection: &Connection, number: u64, report: &mut Report) -> Attempt<()> {
        self.next = None;
        if self.last_number.is_none_or(|last| number > last) {
            return Ok(());
        }
        let sql =
            "SELECT number, size, root, note FROM log_checkpoints WHERE number >= ?1 ORDER BY number LIMIT 1";
        let read = |row: &rusqlite::Row<'_>| {
            let (number, size) = (row.get::<_, Length>(0)?.0, row.get::<_, Length>(1)?.0);
            Ok(Stored { number, size, root: row.get(2)?, note: row.get(3)? })
        };
        self.next = connection.prepare_cached(sql)?.query_row([Length(number)], read).optional()?;
        if let Some(next) = self.next.as_ref().filter(|next| next.number != number) {
            let missing = format!("number {number}");
            let difference = format!("is missing: the next one is number {}", next.number);
            report.faults.add(Fault::of("log_checkpoints", missing, difference));
        }
        Ok(())
    }

    /// Whether anything claims this size, or one below it. Asked of every record, and nearly always not.
    #[inline]
    pub(super) fn is_due(&self, size: u64) -> bool {
        self.next.as_ref().is_some_and(|next| next.size <= size) || self.outside.is_due(size)
    }

    /// The log has this size now: what claims it is compared.
    pub(super) fn pass(
        &mut self,
        connection: &Connection,
        sequence: &Sequence,
        report: &mut Report,
    ) -> Attempt<()> {
        let size = sequence.size();
        while let Some(next) = self.next.take_if(|next| next.size <= size) {
            report.checkpoints += 1;
            report.checkpoint = Some((next.number, next.size));
            let row = || format!("number {}", next.number);
            let mut fault =
                |difference: String| report.faults.add(Fault::of("log_checkpoints", row(), difference));
            if next.size < size {
                fault(format!("its size {} is not above that of the one before it", next.size));
            } else if !sequence.is_broken() {
                let root = sequence.root();
                let differs = next.root != root.0;
                if differs && !std::mem::replace(&mut self.differs, true) {
                    fault(format!("its root is not that of the first {size} records, {root}"));
                }
                match is_signed(&mut self.signers, &next) {
                    Ok(signer) if !differs => signer.signed = Some(next.size),
                    Ok(_) => {}
                    Err(difference) => fault(difference),
                }
            }
            self.load_next(connection, next.number + 1, report)?;
        }
        while let Some(one) = self.outside.take_up_to(size)? {
            if one.claim.size == size {
                self.compare(&one, sequence, report);
            }
        }
        Ok(())
    }

    fn compare(&self, one: &Outside, sequence: &Sequence, report: &mut Report) {
        report.outside += 1;
        let mut fault =
            |difference: String| report.faults.add(Fault::of("outside checkpoint", &one.from, difference));
        let signed = self
            .signers
            .iter()
            .filter(|row| row.origin == one.claim.origin)
            .any(|row| row.vkey.parse::<Verifier>().is_ok_and(|key| one.note.signed_by(&key).is_ok()));
        if !signed {
            fault(format!("no key of this log has signed it for `{}`", one.claim.origin));
        }
        let (size, root) = (one.claim.size, sequence.root());
        if sequence.is_broken() {
            fault(format!("records are missing below its size {size}"));
        } else if one.claim.root != root {
            let claimed = one.claim.root;
            fault(format!(
                "the log was rewritten below position {size}: the root was {claimed}, and is {root}"
            ));
        }
    }

    /// A record that begins a name or a key.
    pub(super) fn begins(&mut self, (row, kind, body): (&Row<'_>, &str, &str), report: &mut Report) {
        let mut fault =
            |difference: String| report.faults.add(Fault::at("log_signers", row.position, difference));
        let told: Told = match serde_json::from_str(body) {
            Ok(told) => told,
            Err(error) => return fault(format!("the record `{kind}` cannot be read: {error}")),
        };
        let Some(index) = self.signers.iter().position(|signer| signer.size == row.position) else {
            return fault(format!("the record `{kind}` tells of a signer, and there is no row"));
        };
        let before =
            index.checked_sub(1).and_then(|before| self.signers.get(before)).map(|row| row.vkey.clone());
        let Some(signer) = self.signers.get_mut(index) else { return };
        signer.told = true;
        if (&*signer.origin, &*signer.vkey) != (&*told.origin, &*told.vkey) {
            fault(format!(
                "the row names `{}` and `{}`, the record `{}` and `{}`",
                signer.origin, signer.vkey, told.origin, told.vkey
            ));
        }
        if kind == "log_key_rotated" {
            let open = |statement: &str| {
                let old: Verifier = before.as_deref()?.parse().ok()?;
                Rotation::open(statement, &old).ok()
            };
            let rotation = told.statement.as_deref().and_then(open);
            let holds =
                |rotation: &Rotation| rotation.new.to_string() == told.vkey && rotation.size == row.position;
            signer.is_handed_over = rotation.as_ref().is_some_and(holds);
            if !signer.is_handed_over {
                fault("the statement is not signed by the key before it and by the new one".to_owned());
            }
        }
    }

    /// What is beyond the end.
    pub(super) fn end(&mut self, sequence: &Sequence, report: &mut Report) -> Attempt<()> {
        let size = sequence.size();
        if let Some(next) = &self.next {
            let difference = format!("it covers {} records, and there are {size}", next.size);
            report.faults.add(Fault::of("log_checkpoints", format!("number {}", next.number), difference));
        }
        while let Some(one) = self.outside.take_up_to(u64::MAX)? {
            report.outside += 1;
            let (from, covered) = (&one.from, one.claim.size);
            let difference = format!(
                "the records from position {size} to {} are gone: the checkpoint `{from}` covers them",
                covered.saturating_sub(1)
            );
            report.faults.add(Fault::at("log_records", size, difference));
        }
        for row in self.signers.iter().filter(|row| !row.told) {
            let difference = format!("no record at position {} tells of it", row.size);
            report.faults.add(Fault::of("log_signers", format!("number {}", row.number), difference));
        }
        report.vouched = self.key.as_ref().and_then(|key| self.vouched(key));
        if report.vouched.as_ref().is_some_and(|vouched| vouched.size == 0) && report.checkpoints > 0 {
            let difference =
                "none is signed by the key that was given, or by one that it is handed over to or from";
            report.faults.add(Fault::of("log_checkpoints", "all rows", difference));
        }
        Ok(())
    }

    /// What a key vouches for. Both keys of a rotation have signed it, so who believes one of them believes the other; after a restore the log has a
    /// new name and a key of its own, which nothing ties to the one before it. A checkpoint commits to all that is before it, whoever signed that.
    fn vouched(&self, key: &str) -> Option<Vouched> {
        let index = self.signers.iter().position(|row| row.vkey == key)?;
        let (before, after) = self.signers.split_at(index + 1);
        let first = before.iter().rposition(|row| !row.is_handed_over).unwrap_or(0);
        let handed_over = after.iter().take_while(|row| row.is_handed_over).count();
        let (tied, others) = self.signers.split_at(index + 1 + handed_over);
        let tied = tied.get(first..).unwrap_or_default();
        Some(Vouched {
            keys: tied.iter().map(|row| row.vkey.clone()).collect(),
            size: tied.iter().filter_map(|row| row.signed).max().unwrap_or(0),
            other: others.first().map(|row| (row.size, row.vkey.clone())),
        })
    }
}

/// Who signs checkpoints of this size, if it has signed this one.
fn is_signed<'s>(signers: &'s mut [SignerRow], stored: &Stored) -> Result<&'s mut SignerRow, String> {
    let row = signers.iter_mut().rev().find(|row| row.size < stored.size);
    let row = row.ok_or("no row of `log_signers` is before it")?;
    let key: Verifier = row.vkey.parse().map_err(|_| "its signer has no key that can be read".to_owned())?;
    let claim = Checkpoint::open(&stored.note, &key).map_err(|error| error.to_string())?;
    if claim.size != stored.size || claim.root.0[..] != stored.root[..] || claim.origin != row.origin {
        return Err(format!("its note says size {} and root {}", claim.size, claim.root));
    }
    Ok(row)
}

fn signers(connection: &Connection) -> Attempt<Vec<SignerRow>> {
    let mut statement =
        connection.prepare("SELECT number, origin, vkey, size FROM log_signers ORDER BY number")?;
    let rows = statement.query_map((), |row| {
        let (origin, vkey) = (row.get(1)?, row.get(2)?);
        let (number, size) = (row.get::<_, Length>(0)?.0, row.get::<_, Length>(3)?.0);
        Ok(SignerRow { number, origin, vkey, size, told: false, is_handed_over: false, signed: None })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
