//! What must be true of every answer to a configuration, whatever it says.

use cellblock::plan::Plan;
use cellblock::spec::{NamespaceKind, Spec};
use kernel::sys::clone::CloneFlags;

/// A failure is one line, not endless, and at most a second with the remedy.
pub fn is_one_line(lines: &str) -> bool {
    lines.lines().count() <= 2 && lines.len() < 4000 && !lines.replace('\n', "").contains(char::is_control)
}

/// The fields of a configuration at its top.
const FIELDS: [&str; 9] =
    ["ociVersion", "process", "root", "hostname", "domainname", "mounts", "hooks", "annotations", "linux"];

/// The lines of a failure say which field it is about, `linux.devices[0].path: ...` or `config.json: mounts[3]: ...`; or, if the
/// text is not JSON, which line.
pub fn names_a_field(lines: &str) -> bool {
    let text = lines.strip_prefix("cellblock: ").unwrap_or(lines);
    let text = text.strip_prefix("config.json: ").unwrap_or(text);
    let text = text.strip_prefix("missing field `").unwrap_or(text);
    let name = text.find(['.', '[', ':', '`']).map_or(text, |end| &text[..end]);
    FIELDS.iter().any(|field| field.eq_ignore_ascii_case(name))
        || text.starts_with("invalid type: ") && text.contains("expected struct Spec")
        || text.contains(": a NUL in a string\n") // in a field that is ignored
        || lines.contains("hint: it is not JSON: see line ")
}

/// No wall that was asked for is left out of the plan.
pub fn keeps_its_word(spec: &Spec, plan: &Plan) {
    let is_joined = plan.joined.iter().any(|(kind, _)| *kind == CloneFlags::CLONE_NEWNS);
    assert!(plan.new.contains(CloneFlags::CLONE_NEWNS) || is_joined);
    assert_eq!(plan.root.mounts.len(), spec.mounts.len());
    assert_eq!(plan.root.read_only, spec.root.as_ref().is_some_and(|root| root.readonly));
    let Some(linux) = &spec.linux else { return };
    assert_eq!(plan.new.bits().count_ones() as usize + plan.joined.len(), linux.namespaces.len());
    assert_eq!(plan.id_maps.is_some(), linux.namespace(NamespaceKind::User).is_some_and(|users| users.path.is_none()));
    assert_eq!(plan.root.masked.len(), linux.masked_paths.len());
    assert_eq!(plan.root.read_only_paths.len(), linux.readonly_paths.len());
    assert_eq!(plan.sysctl.len(), linux.sysctl.len());
    assert_eq!(plan.task.confinement().filter.is_some(), linux.seccomp.is_some());
}
