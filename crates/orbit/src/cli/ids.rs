//! From the first digits of an id to the one thing that is meant.

use orbit_engine::layout::Layout;
use uuid::Uuid;

use super::args::IdArg;
use super::failure::Failure;
use super::read;
use crate::control::{Command, NamespaceChoice, Thing};

/// The id that is meant. Where several begin so they are the hint.
pub async fn whole(
    layout: &Layout,
    namespace: &NamespaceChoice,
    thing: Thing,
    id: &IdArg,
) -> Result<Uuid, Failure> {
    let beginning = match id {
        IdArg::Whole(id) => return Ok(*id),
        IdArg::Beginning(beginning) => beginning,
    };
    let find = Command::Find { namespace: namespace.clone(), thing, beginning: beginning.clone() };
    let answer = read::ask(layout, find).await?;
    let ids: Vec<_> = answer["items"].as_array().into_iter().flatten().filter_map(|id| id.as_str()).collect();
    match ids.as_slice() {
        [] => Err(missing(thing, beginning)),
        [only] => {
            only.parse().map_err(|_| Failure::failed(format!("the answer is not understood: `{only}`")))
        }
        several => Err(Failure::usage(format!("several {} begin with `{beginning}`", words(thing).1))
            .hint(format!("there are: {}", several.join(", ")))),
    }
}

/// As [`whole`], of an id that may be left out.
pub async fn whole_if_given(
    layout: &Layout,
    namespace: &NamespaceChoice,
    thing: Thing,
    id: Option<&IdArg>,
) -> Result<Option<Uuid>, Failure> {
    match id {
        Some(id) => whole(layout, namespace, thing, id).await.map(Some),
        None => Ok(None),
    }
}

/// There is no such thing.
pub fn missing(thing: Thing, id: &str) -> Failure {
    let (one, several) = words(thing);
    Failure::usage(format!("there is no {one} `{id}`"))
        .hint(format!("`orbit {several} list` shows the {several}"))
}

const fn words(thing: Thing) -> (&'static str, &'static str) {
    match thing {
        Thing::Cycle => ("cycle", "cycles"),
        Thing::Run => ("run", "runs"),
        Thing::Delivery => ("delivery", "deliveries"),
    }
}
