//! What every program of a namespace is given, be it a processor or a source: where it is found, its environment, and its secrets, which are
//! taken out again of what it says.

mod redact;

use std::collections::BTreeMap;
use std::path::Path;

use orbit_core::config::{NamespaceName, TextOrSecret};

use crate::secrets::Secrets;

/// Where programs are looked for when the document's `env` has no `PATH`. The engine's own is not used: what runs in a terminal must run in a
/// service too.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program's environment and the secrets in it.
#[derive(Debug, PartialEq)]
pub(crate) struct Environment {
    /// Every variable, with secrets filled in.
    pub(crate) variables: BTreeMap<String, String>,
    secrets: Vec<String>,
}

/// A secret is not set; the variable that would hold it.
#[derive(Debug, PartialEq)]
pub(crate) struct SecretMissing(pub(crate) String);

impl Environment {
    /// The variables of a document over those that every program has. The folder is the program's own, for what it writes unasked.
    pub(crate) fn of(
        env: &BTreeMap<String, TextOrSecret>,
        folder: &Path,
        (namespace, known): (&NamespaceName, &dyn Secrets),
    ) -> Result<Self, SecretMissing> {
        let folder = folder.to_string_lossy();
        let base = [("PATH", PATH), ("LANG", "C.UTF-8"), ("HOME", &folder), ("TMPDIR", &folder)];
        let mut variables: BTreeMap<_, _> =
            base.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut secrets = Vec::new();
        for (name, value) in env {
            let text = match value {
                TextOrSecret::Text(text) => text.clone(),
                TextOrSecret::Secret(secret) => {
                    let missing = || SecretMissing(secret.variable(namespace));
                    let text = known.get(namespace, secret).ok_or_else(missing)?;
                    secrets.push(text.clone());
                    text
                }
            };
            variables.insert(name.clone(), text);
        }
        Ok(Self { variables, secrets })
    }

    /// What the program said, without the secrets it was given.
    pub(crate) fn redact(&self, words: &[u8]) -> Vec<u8> {
        redact::redact(words, &self.secrets)
    }
}

/// A program name with a `/` is relative to the namespace's folder; one without is looked up.
pub(crate) fn resolve(folder: &Path, argv: &mut [String]) {
    if let Some(program) = argv.first_mut().filter(|program| program.contains('/')) {
        *program = folder.join(&*program).to_string_lossy().into_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_the_namespace() {
        let check = |program: &str, expected: &str| {
            let mut argv = [program.to_owned(), "a/b".to_owned()];
            resolve(Path::new("/home/n"), &mut argv);
            assert_eq!(argv, [expected, "a/b"]);
        };
        check("sh", "sh");
        check("programs/list.sh", "/home/n/programs/list.sh");
        check("/bin/sh", "/bin/sh");
    }
}
