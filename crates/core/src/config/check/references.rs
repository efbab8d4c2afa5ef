//! References from one document to another: each names something that is there.

use std::collections::BTreeSet;

use super::{Document, DocumentRef, Kind, PathPart, Problem, Report, Unread, below, key, normalize, path};
use crate::config::{DistributionTarget, Processor, Profile, RunProfile};
use crate::limits::TARGETS_MAX;

/// Every reference to nothing.
pub(super) fn check(documents: &[Document], unread: &Unread, found: &mut Vec<Problem>) {
    let index = Index::new(documents, unread);
    for (number, document) in documents.iter().enumerate() {
        let mut report = Report { document: DocumentRef(number), found };
        match document {
            Document::Profile(profile) => check_profile(profile, &index, &mut report),
            Document::RunProfile(run_profile) => check_run_profile(run_profile, &index, &mut report),
            Document::Namespace(config) => {
                for (number, rule) in config.notify.iter().enumerate() {
                    let at = below(path(&["notify"]), [PathPart::Index(number), key("endpoint")]);
                    index.require(Kind::Endpoint, rule.endpoint.as_str(), at, &mut report);
                }
            }
            Document::Source(_) | Document::Processor(_) | Document::Endpoint(_) => {}
        }
    }
}

struct Index<'a> {
    names: BTreeSet<(Kind, String)>,
    unread: &'a Unread,
    processors: Vec<&'a Processor>,
    profiles: Vec<&'a Profile>,
    run_profiles: Vec<&'a RunProfile>,
    for_notices: BTreeSet<String>,
}

impl<'a> Index<'a> {
    fn new(documents: &'a [Document], unread: &'a Unread) -> Self {
        let mut index = Self {
            names: unread.names.clone(),
            unread,
            processors: Vec::new(),
            profiles: Vec::new(),
            run_profiles: Vec::new(),
            for_notices: BTreeSet::new(),
        };
        for document in documents {
            let names = match document {
                Document::Namespace(config) => {
                    index.for_notices.extend(config.notify.iter().map(|rule| rule.endpoint.to_string()));
                    Vec::new()
                }
                Document::Source(source) => vec![source.name().to_string()],
                Document::Processor(processor) => {
                    index.processors.push(processor);
                    vec![processor.name().to_string()]
                }
                Document::Endpoint(endpoint) => vec![endpoint.name.to_string()],
                Document::Profile(profile) => {
                    index.profiles.push(profile);
                    vec![profile.label.to_string(), profile.profile_id.to_string()]
                }
                Document::RunProfile(run_profile) => {
                    index.run_profiles.push(run_profile);
                    Vec::new()
                }
            };
            index.names.extend(names.into_iter().map(|name| (document.kind(), name)));
        }
        index
    }

    fn has(&self, kind: Kind, name: &str) -> bool {
        self.unread.kinds.contains(&kind) || self.names.contains(&(kind, name.to_owned()))
    }

    fn require(&self, kind: Kind, name: &str, at: Vec<PathPart>, report: &mut Report<'_>) {
        if self.has(kind, name) {
            return;
        }
        // Ids are also names; people are told the labels.
        let is_label = |name: &str| uuid::Uuid::parse_str(name).is_err();
        let known: Vec<_> = self
            .names
            .iter()
            .filter(|(found, name)| *found == kind && is_label(name))
            .map(|(_, name)| format!("`{name}`"))
            .collect();
        let noun = kind.noun();
        let hint = match known.len() {
            0 => format!("this namespace has no {noun}"),
            1..=12 => format!("there are: {}", known.join(", ")),
            count => format!("there are {count} others"),
        };
        report.error(at, format!("there is no {noun} `{name}`")).hint(hint);
    }

    /// Whether there is one for results, and not only for notices.
    fn has_endpoints(&self) -> bool {
        self.names.iter().any(|(kind, name)| *kind == Kind::Endpoint && !self.for_notices.contains(name))
    }
}

fn refers_to(run_profile: &RunProfile, profile: &Profile) -> bool {
    let id = profile.profile_id.to_string();
    run_profile.execution_policy.profiles.iter().any(|name| name == profile.label.as_str() || *name == id)
}

fn check_profile(profile: &Profile, index: &Index<'_>, report: &mut Report<'_>) {
    let rules = &profile.execution_rules;
    for (number, tier) in rules.tiers.iter().enumerate() {
        let at = below(path(&["execution_rules", "tiers"]), [PathPart::Index(number), key("processor")]);
        index.require(Kind::Processor, tier.processor.as_str(), at, report);
        let processor = index.processors.iter().find(|processor| *processor.name() == tier.processor);
        if tier.reference.is_some() && processor.is_some_and(|processor| !processor.takes_reference()) {
            let at = below(path(&["execution_rules", "tiers"]), [PathPart::Index(number), key("reference")]);
            report
                .error(at, format!("processor `{}` has no place for a reference", tier.processor))
                .hint("an http processor takes one as a part of its body: write `context: part` there");
        }
    }
    if let Some(normalize) = &rules.normalize {
        let at = path(&["execution_rules", "normalize", "processor"]);
        index.require(Kind::Processor, normalize.processor.as_str(), at, report);
    }
    normalize::check_rules(rules, &index.processors, report);
    check_reference(profile, index, report);
    check_targets(&profile.distribution_map, "distribution_map", index, report);
    let mut users = index.run_profiles.iter().filter(|user| refers_to(user, profile));
    let is_delivered = users.any(|user| !user.distribution_targets.is_empty());
    if profile.distribution_map.is_empty() && index.has_endpoints() && !is_delivered {
        report
            .warning(path(&["distribution_map"]), "this profile's results go to no endpoint")
            .hint("list one: `distribution_map: [ { endpoint: NAME } ]`");
    }
}

/// The reference asset is bound by the profile, or by every run profile that runs it.
fn check_reference(profile: &Profile, index: &Index<'_>, report: &mut Report<'_>) {
    let tiers = profile.execution_rules.tiers.iter().enumerate();
    for (number, asset) in tiers.filter_map(|(number, tier)| Some((number, tier.reference.as_ref()?))) {
        if profile.asset_bindings.contains_key(asset) || index.unread.kinds.contains(&Kind::RunProfile) {
            continue;
        }
        let at = || below(path(&["execution_rules", "tiers"]), [PathPart::Index(number), key("reference")]);
        let mut users = index.run_profiles.iter().filter(|user| refers_to(user, profile)).peekable();
        if users.peek().is_none() {
            report
                .error(at(), format!("asset `{asset}` is not bound"))
                .hint(format!("bind it: `asset_bindings: {{ {asset}: assets/… }}`"));
        }
        for user in users.filter(|user| !user.asset_bundle.contains_key(asset)) {
            let label = &user.label;
            report
                .error(at(), format!("asset `{asset}` is bound neither here nor by run profile `{label}`"))
                .hint("add it to `asset_bindings` here or to the run profile's `asset_bundle`");
        }
    }
}

fn check_run_profile(run_profile: &RunProfile, index: &Index<'_>, report: &mut Report<'_>) {
    let policy = &run_profile.execution_policy;
    let at = path(&["execution_policy", "selection", "source"]);
    index.require(Kind::Source, policy.selection.source.as_str(), at, report);
    let mut ran = BTreeSet::new();
    for (number, reference) in policy.profiles.iter().enumerate() {
        let at = || below(path(&["execution_policy", "profiles"]), [PathPart::Index(number)]);
        index.require(Kind::Profile, reference, at(), report);
        let profile = index.profiles.iter().find(|profile| {
            profile.label.as_str() == reference || profile.profile_id.to_string() == *reference
        });
        let Some(profile) = profile else { continue };
        if !ran.insert(profile.profile_id) && !policy.profiles[..number].contains(reference) {
            report.error(at(), format!("profile `{}` is listed twice, by label and by id", profile.label));
        }
        let targets: BTreeSet<_> =
            profile.distribution_map.iter().chain(&run_profile.distribution_targets).collect();
        if targets.len() > TARGETS_MAX {
            let count = targets.len();
            report
                .error(at(), format!("a run has at most {TARGETS_MAX} endpoints, with this profile {count}"));
        }
    }
    check_targets(&run_profile.distribution_targets, "distribution_targets", index, report);
}

fn check_targets(targets: &[DistributionTarget], list: &str, index: &Index<'_>, report: &mut Report<'_>) {
    for (number, target) in targets.iter().enumerate() {
        let at = below(path(&[list]), [PathPart::Index(number), key("endpoint")]);
        index.require(Kind::Endpoint, target.endpoint.as_str(), at, report);
    }
}
