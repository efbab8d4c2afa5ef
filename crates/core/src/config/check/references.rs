//! References from one document to another: each names something that is there.

use std::collections::{BTreeMap, BTreeSet};

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
    /// By label and by id.
    profiles: BTreeMap<String, &'a Profile>,
    /// Who runs a profile, by the label or id that they name it by.
    users: BTreeMap<&'a str, Vec<&'a RunProfile>>,
    /// Whether there is an endpoint for results, and not only for notices.
    has_endpoints: bool,
}

impl<'a> Index<'a> {
    fn new(documents: &'a [Document], unread: &'a Unread) -> Self {
        let mut index = Self {
            names: unread.names.clone(),
            unread,
            processors: Vec::new(),
            profiles: BTreeMap::new(),
            users: BTreeMap::new(),
            has_endpoints: false,
        };
        let mut for_notices = BTreeSet::new();
        for document in documents {
            let names = match document {
                Document::Namespace(config) => {
                    for_notices.extend(config.notify.iter().map(|rule| rule.endpoint.to_string()));
                    Vec::new()
                }
                Document::Source(source) => vec![source.name().to_string()],
                Document::Processor(processor) => {
                    index.processors.push(processor);
                    vec![processor.name().to_string()]
                }
                Document::Endpoint(endpoint) => vec![endpoint.name.to_string()],
                Document::Profile(profile) => {
                    let names = vec![profile.label.to_string(), profile.profile_id.to_string()];
                    for name in &names {
                        index.profiles.entry(name.clone()).or_insert(profile);
                    }
                    names
                }
                Document::RunProfile(run_profile) => {
                    for name in &run_profile.execution_policy.profiles {
                        index.users.entry(name).or_default().push(run_profile);
                    }
                    Vec::new()
                }
            };
            index.names.extend(names.into_iter().map(|name| (document.kind(), name)));
        }
        index.has_endpoints =
            index.names.iter().any(|(kind, name)| *kind == Kind::Endpoint && !for_notices.contains(name));
        index
    }

    /// The run profiles that run a profile, each once.
    fn users(&self, profile: &Profile) -> Vec<&'a RunProfile> {
        let by = |name: &str| self.users.get(name).into_iter().flatten().copied();
        let mut users: Vec<_> =
            by(profile.label.as_str()).chain(by(&profile.profile_id.to_string())).collect();
        let mut seen = BTreeSet::new();
        users.retain(|user| seen.insert(std::ptr::from_ref(*user)));
        users
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
    let is_delivered = index.users(profile).iter().any(|user| !user.distribution_targets.is_empty());
    if profile.distribution_map.is_empty() && index.has_endpoints && !is_delivered {
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
        let users = index.users(profile);
        if users.is_empty() {
            report
                .error(at(), format!("asset `{asset}` is not bound"))
                .hint(format!("bind it: `asset_bindings: {{ {asset}: assets/… }}`"));
        }
        for user in users.iter().filter(|user| !user.asset_bundle.contains_key(asset)) {
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
        let Some(profile) = index.profiles.get(reference.as_str()) else { continue };
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
