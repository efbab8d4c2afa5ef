//! One batch from the claim to the commits: a program for all of its runs, and an end for each of them.
//!
//! A program that fails as a whole is no run's fault: each goes back and is done alone. What a program says of one item, or what is wrong with one
//! output, is that run's failure alone. A run that is cancelled meanwhile drops out; a halt or a stop, which cuts every run, ends the program.

use std::sync::Arc;

use orbit_core::config::{Processor as Document, StepRetry};
use orbit_core::governance::Door;
use orbit_core::id;
use orbit_core::tiers::{Failure, Usage};
use orbit_store::contract::Artifact;
use orbit_store::contract::normalize::ClaimedBatch;
use orbit_store::contract::tiers::ClaimedStep;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::program::{self, Answer, Given, Job};
use crate::namespace::Namespace;
use crate::patience::Reader;
use crate::running::{Act, Cut};
use crate::service::panic_message;
use crate::tiers::attempt::{self, Finished, Made, Plan};
use crate::tiers::{Work, step};

/// What is to be done with one program.
struct Task {
    /// Names the work folder and the batch.
    id: Uuid,
    /// The attempt of every step.
    attempt: u32,
    /// The steps.
    items: Vec<ClaimedStep>,
}

/// What came of it.
struct Done {
    /// For each step, in order.
    ends: Vec<End>,
    /// Facts for the record of each.
    facts: Map<String, Value>,
    /// What the program used.
    usage: Option<Usage>,
    /// The last that it had to say.
    words: Vec<u8>,
    /// The folder in which the outputs lie.
    folder: Option<Arc<Work>>,
}

/// What came of one step.
enum End {
    /// The program says that it did it.
    Made(Box<Plan>, Arc<Work>),
    /// It failed by itself.
    Failed(Failure, StepRetry),
    /// The batch failed as a whole.
    Whole(Failure, StepRetry),
}

/// Does the steps of a batch and commits each.
pub(super) async fn run(namespace: &Arc<Namespace>, batch: ClaimedBatch) {
    let ClaimedBatch { batch_id, items } = batch;
    let began = namespace.shared.clock.now();
    let acts: Vec<Act> = items.iter().map(|item| namespace.running.begin(item.claim.id)).collect();
    // What came between the claim and the registration of these acts, such as a halt, has cut nothing.
    let closed = namespace.ask(Door::Step, &[]).err().as_ref().and_then(Cut::by);
    let task = Task { id: batch_id, attempt: 1, items: items.clone() };
    let done = if closed.is_some() {
        Done::failed(&task, &Failure::Cancelled)
    } else {
        unless_cut(namespace, task, &acts).await
    };
    let Done { ends, facts, usage, words, folder } = done;
    let none_by_itself = !ends.iter().any(|end| matches!(end, End::Failed(..)));
    let is_one = items.len() == 1;
    for (number, ((claimed, act), end)) in items.into_iter().zip(&acts).zip(ends).enumerate() {
        // What the program said goes with those that failed by themselves, or else with the first.
        let is_told = matches!(end, End::Failed(..)) || (none_by_itself && number == 0);
        // Of one run alone the batch's failure is its own.
        let batch_failed = matches!(end, End::Whole(..)) && !is_one;
        let finished = Finished {
            batch_failed,
            facts: facts.clone(),
            usage: usage.filter(|_| is_one),
            words: if is_told { words.clone() } else { Vec::new() },
            ..finish(namespace, &claimed, end, &act.token).await
        };
        step::end(namespace, (act, closed), claimed, finished, began).await;
    }
    drop(acts);
    remove(folder).await;
}

/// Makes one attempt of a step that was part of a batch before, or never was: the same program with one line in its manifest.
pub(crate) async fn alone(
    namespace: Arc<Namespace>,
    claimed: ClaimedStep,
    cancel: CancellationToken,
) -> Finished {
    let task = Task { id: claimed.claim.id, attempt: claimed.attempt, items: vec![claimed.clone()] };
    let Done { ends, facts, usage, words, folder } = work(&namespace, task, &cancel).await;
    let mut finished = Finished::failed(Failure::ResultMissing);
    for end in ends {
        finished = finish(&namespace, &claimed, end, &cancel).await;
    }
    remove(folder).await;
    Finished { usage, words, facts, ..finished }
}

/// Does the work, and ends it once every run is cut: by a halt or a stop, which cut all of them, or one after the other.
async fn unless_cut(namespace: &Arc<Namespace>, task: Task, acts: &[Act]) -> Done {
    let cancel = CancellationToken::new();
    let lost = Done::failed(&task, &Failure::Cancelled);
    let (worker, token) = (Arc::clone(namespace), cancel.clone());
    let mut working = tokio::spawn(async move { work(&worker, task, &token).await });
    let all_cut = async {
        for act in acts {
            act.token.cancelled().await;
        }
    };
    let joined = tokio::select! {
        joined = &mut working => joined,
        () = all_cut => {
            cancel.cancel();
            working.await
        }
    };
    joined.unwrap_or_else(|error| lost.because(&Failure::Panicked { message: panic_message(error) }))
}

/// From the requests to the outputs, which lie in the work folder.
async fn work(namespace: &Arc<Namespace>, task: Task, cancel: &CancellationToken) -> Done {
    let mut plans = Vec::with_capacity(task.items.len());
    let reader = Reader { namespace, service: "normalize", cancel };
    for item in &task.items {
        plans.push(attempt::plan(reader, item).await.and_then(|plan| Ok((plan, input(item)?))));
    }
    let planned = task.items.iter().zip(&plans).filter(|(_, plan)| plan.is_ok());
    let deadline_at = planned.map(|(item, _)| item.deadline_at).min();
    // Only programs are told of their work by a manifest.
    let document = plans.iter().flatten().find_map(|(plan, _)| match &plan.document {
        Document::Exec(document) => Some(document.clone()),
        Document::Http(_) => None,
    });
    let (Some(deadline_at), Some(document)) = (deadline_at, document) else {
        return Done::of(&task, plans, Answer::default());
    };
    if cancel.is_cancelled() || namespace.shared.stopping.is_cancelled() {
        return Done::of(&task, plans, Answer::failed(Failure::Cancelled));
    }
    // No run is given more time than it has, and one program has one limit.
    let wall = attempt::time_left(namespace, deadline_at).min(document.limits.wall.to_duration());
    if wall.is_zero() {
        return Done::of(&task, plans, Answer::failed(Failure::TimedOut { wall_ms: 0 }));
    }
    let given = |item: &ClaimedStep, input: &Artifact| Given {
        key: id::step_key(item.claim.id, item.step),
        input: input.clone(),
    };
    let items =
        task.items.iter().zip(&plans).filter_map(|(item, plan)| Some(given(item, &plan.as_ref().ok()?.1)));
    let job = Job { document, id: task.id, attempt: task.attempt, wall, items: items.collect() };
    let answer = program::run(namespace, job, cancel).await;
    Done::of(&task, plans, answer)
}

fn input(item: &ClaimedStep) -> Result<Artifact, Failure> {
    let refused = || Failure::RequestRefused { message: "there is no output to normalize".to_owned() };
    item.input.clone().ok_or_else(refused)
}

impl Done {
    /// Nothing was done.
    fn failed(task: &Task, failure: &Failure) -> Self {
        let end = |_: &ClaimedStep| End::Whole(failure.clone(), StepRetry::default());
        let ends = task.items.iter().map(end).collect();
        Self { ends, facts: facts(task, &Answer::default()), usage: None, words: Vec::new(), folder: None }
    }

    /// The same for another reason.
    fn because(mut self, failure: &Failure) -> Self {
        self.ends = self.ends.iter().map(|_| End::Whole(failure.clone(), StepRetry::default())).collect();
        self
    }

    /// The answer's items are those of the plans that there are, in the same order.
    fn of(task: &Task, plans: Vec<Result<(Plan, Artifact), Failure>>, mut answer: Answer) -> Self {
        let facts = facts(task, &answer);
        let mut items = std::mem::take(&mut answer.items).into_iter();
        let whole = answer.failure;
        let end = |plan| match plan {
            Ok((plan, _)) => of_item(plan, items.next(), whole.as_ref()),
            Err(failure) => End::Failed(failure, StepRetry::default()),
        };
        let ends = plans.into_iter().map(end).collect();
        Self { ends, facts, usage: answer.usage, words: answer.words, folder: answer.folder }
    }
}

/// A failure of the batch counts before what the program said of an item; what could not even be given to the program is the item's own.
fn of_item(plan: Plan, item: Option<Result<Arc<Work>, Failure>>, whole: Option<&Failure>) -> End {
    match (item, whole) {
        (Some(Err(failure)), _) => End::Failed(failure, plan.document.retry().clone()),
        (_, Some(failure)) => End::Whole(failure.clone(), plan.document.retry().clone()),
        (Some(Ok(work)), None) => End::Made(Box::new(plan), work),
        (None, None) => End::Failed(Failure::ResultMissing, plan.document.retry().clone()),
    }
}

/// What the records of a batch's attempts have in common. Of several runs the usage is the batch's, and nobody's own.
fn facts(task: &Task, answer: &Answer) -> Map<String, Value> {
    let several = task.items.len() > 1;
    let mut batch = Map::from_iter([("items".to_owned(), json!(task.items.len()))]);
    if several {
        batch.insert("batch_id".to_owned(), json!(task.id));
    }
    if let Some(usage) = answer.usage.filter(|_| several) {
        batch.insert("usage".to_owned(), json!(usage));
    }
    if !answer.odd.is_empty() {
        batch.insert("odd_lines".to_owned(), json!(answer.odd));
    }
    Map::from_iter([("batch".to_owned(), Value::Object(batch))])
}

/// Keeps the output, if there is one.
async fn finish(
    namespace: &Namespace,
    claimed: &ClaimedStep,
    end: End,
    cancel: &CancellationToken,
) -> Finished {
    let (plan, work) = match end {
        End::Made(plan, work) => (plan, work),
        End::Failed(failure, retry) | End::Whole(failure, retry) => {
            return Finished { retry, ..Finished::failed(failure) };
        }
    };
    let Plan { document, then, deliveries, .. } = *plan;
    let (retry, media_type) = (document.retry().clone(), document.media_type().to_owned());
    let input = claimed.input.as_ref().map(|input| input.digest);
    let kept = attempt::keep(namespace, &work, (document, input), cancel).await;
    remove(Some(work)).await;
    match kept {
        Ok(kept) => {
            let made = Made::of(kept, media_type, (then, deliveries));
            Finished { retry, result: Ok(made), ..Finished::failed(Failure::ResultMissing) }
        }
        Err(failure) => Finished { retry, ..Finished::failed(failure) },
    }
}

/// A folder goes with the last hold on it, which takes a while: not between other tasks.
async fn remove(folder: Option<Arc<Work>>) {
    let removed = attempt::blocking(move || {
        drop(folder);
        Ok(())
    });
    if let Err(failure) = removed.await {
        tracing::warn!("a work folder could not be removed: {failure}");
    }
}
